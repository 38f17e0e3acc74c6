"""Reads a run's directory: what the lines of its journal say together."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_candle.report import quantities
from keras_candle.report.reading import json_of, lines_of, number, numbers, table
from keras_candle.report.run import Epoch, ReportedRun, RunAttempt, RunEvent
from keras_candle.run_directory import CHECKPOINTS, JOURNAL

CONFIG, PERFORMANCE = "config.json", "performance.json"
_COMMITTED = re.compile(r"step-(\d{8,})")
# Events with which a process tells that it has begun.
_BEGINS = ("begin", "resume")


def is_run(path: Path) -> bool:
    """Whether a directory looks like one of a run."""
    return any((path / name).is_file() for name in (JOURNAL, PERFORMANCE)) or (
        (path / CONFIG).is_file() and (path / CHECKPOINTS).is_dir()
    )


def read_run(path: Path, name: str, number_of_run: int = 0) -> ReportedRun:
    """Read a run's directory.

    Args:
        path: the directory.
        name: by which the report calls it.
        number_of_run: its place among the report's runs, from 0.

    Returns:
        The run, with what could not be read in `missing`.
    """
    run = ReportedRun(path, name, number_of_run)
    for each in (CONFIG, PERFORMANCE, JOURNAL):
        if not (path / each).is_file():
            run.missing.append(f"{each} is not there.")
    run.config = json_of(path / CONFIG, run.missing)
    run.performance = json_of(path / PERFORMANCE, run.missing)
    take_journal(run, lines_of(path / JOURNAL, run.missing))
    checkpoints = path / CHECKPOINTS
    try:
        found = [_COMMITTED.fullmatch(each.name) for each in checkpoints.iterdir()]
        run.kept = sorted(int(each[1]) for each in found if each)
        best = _COMMITTED.fullmatch((checkpoints / "best").readlink().name)
        run.best_kept = int(best[1]) if best else None
    except OSError:  # no checkpoints, or no best one
        pass
    return run


def take_journal(run: ReportedRun, lines: list[dict[str, Any]]) -> None:
    """Fill a run's epochs, starts and marks.

    What a restart trains again replaces what was trained before: an epoch counts once.

    Args:
        run: it is filled.
        lines: of its journal, in their order.
    """
    story = _Story(run)
    for line in lines:
        time_s, event = number(line.get("time_s")), line.get("event")
        if time_s is not None and isinstance(event, str):
            story.take(event, time_s, line)
    run.epochs, run.repeated = story.epochs(), story.repeated
    first: dict[str, int] = {}
    for epoch in run.epochs:
        for name in epoch.broken:
            first.setdefault(name, epoch.number)
    run.missing += [f"{name} is not a number in epoch {epoch}." for name, epoch in first.items()]


class _Story:
    def __init__(self, run: ReportedRun) -> None:
        self._run = run
        self._by_fit: dict[int, list[Epoch]] = {}
        self._passed_s = 0.0  # in the starts before this one
        self.repeated = 0

    def epochs(self) -> list[Epoch]:
        """Those that count; a fit that counts from 1 again stands behind the one before."""
        found: list[Epoch] = []
        for fit in sorted(self._by_fit):
            own = self._by_fit[fit]
            again = bool(found and own and own[0].in_fit <= found[-1].in_fit)
            offset = found[-1].number if again else 0
            found += [dataclasses.replace(each, number=offset + each.in_fit) for each in own]
        return found

    def take(self, event: str, time_s: float, line: dict[str, Any]) -> None:
        starts, step = self._run.starts, _whole(line.get("step"))
        fit = _whole(line["fit"]) if "fit" in line else starts[-1].fit if starts else 0
        begins = event in _BEGINS
        if not starts or (begins and self._is_restart(event, fit)):
            self._start(time_s, step if begins else 0)
        start = starts[-1]
        start.ended_s, start.fit = max(time_s, start.ended_s), fit
        if begins:
            start.end = ""
            start.ranks = _whole(line.get("ranks")) or start.ranks
            start.hosts = _hosts(line.get("hosts")) or start.hosts
            if number(line.get("step")) is not None:
                self._forget(fit, lambda epoch: epoch.step > step)
            return
        start.events += 1
        if event == "epoch":
            self._take_epoch(fit, step, time_s, line)
        else:
            self._take_event(event, step, time_s, line)

    def _is_restart(self, event: str, fit: int) -> bool:
        start = self._run.starts[-1]
        # Else it is the next fit of the same process, or the second of the two lines with which
        # one begins.
        next_fit = fit > start.fit and start.end in ("ended", "")
        return not next_fit and (start.events > 0 or event == "begin")

    def _start(self, time_s: float, step: int) -> None:
        starts = self._run.starts
        if starts:
            self._passed_s += starts[-1].ended_s - starts[-1].began_s
            starts[-1].end = starts[-1].end or "killed, or ended without a word"
        starts.append(RunAttempt(time_s, time_s, step=step))

    def _take_epoch(self, fit: int, step: int, time_s: float, line: dict[str, Any]) -> None:
        in_fit = _whole(line.get("epoch"))
        if in_fit < 1:
            return
        self._forget(fit, lambda epoch: epoch.in_fit >= in_fit)
        values = numbers(line.get("logs"))
        broken = [
            str(name)
            for name, value in table(line.get("logs")).items()
            if isinstance(value, float) and str(name) not in values
        ]
        starts = self._run.starts
        epoch = Epoch(
            fit=fit,
            number=in_fit,
            in_fit=in_fit,
            step=step,
            active_s=self._passed_s + time_s - starts[-1].began_s,
            time_s=time_s,
            values=values,
            broken=tuple(broken),
            performance=table(line.get("performance")),
            start=len(starts) - 1,
        )
        self._by_fit.setdefault(fit, []).append(epoch)

    def _forget(self, fit: int, again: Callable[[Epoch], bool]) -> None:
        epochs = self._by_fit.get(fit, [])
        while epochs and again(epochs[-1]):
            epochs.pop()
            self.repeated += 1

    def _take_event(self, event: str, step: int, time_s: float, line: dict[str, Any]) -> None:
        start = self._run.starts[-1]
        if event == "end":
            start.end = "ended"
            return
        text = f"{event} at step {step}"
        if event == "stop":
            start.end = f"stopped by {line.get('reason', 'what is not told')}"
            text = f"{start.end} at step {step}"
        elif event == "stall":
            start.end = "stalled"
            text = f"stall, see {line['report']}" if "report" in line else "stall"
        elif event == "checkpoint":
            took_s = number(line.get("seconds"))
            took = "" if took_s is None else f", {quantities.duration(took_s)} to the disk"
            text = f"checkpoint of step {step}{took}"
        self._run.marks.append(RunEvent(event, time_s, text, len(self._run.starts) - 1))


def _whole(value: object) -> int:
    found = number(value)
    return 0 if found is None else int(found)


def _hosts(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, value))) if isinstance(value, list) else ()
