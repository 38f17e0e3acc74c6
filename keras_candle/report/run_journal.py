"""Read a run's directory and replay its journal."""

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
# The events that mark the start of an attempt.
_BEGINS = ("begin", "resume")


def is_run(path: Path) -> bool:
    """Return whether a directory looks like a run directory."""
    return any((path / name).is_file() for name in (JOURNAL, PERFORMANCE)) or (
        (path / CONFIG).is_file() and (path / CHECKPOINTS).is_dir()
    )


def read_run(path: Path, name: str, number_of_run: int = 0) -> ReportedRun:
    """Read a run's directory.

    Args:
        path: the directory.
        name: its name in the report.
        number_of_run: its index among the report's runs, from 0.

    Returns:
        The run; its `missing` lists missing and damaged files.
    """
    run = ReportedRun(path, name, number_of_run)
    for each in (CONFIG, PERFORMANCE, JOURNAL):
        if not (path / each).is_file():
            run.missing.append(f"{each} is not there.")
    run.config = json_of(path / CONFIG, run.missing)
    run.performance = json_of(path / PERFORMANCE, run.missing)
    apply_journal(run, lines_of(path / JOURNAL, run.missing))
    checkpoints = path / CHECKPOINTS
    try:
        found = [_COMMITTED.fullmatch(each.name) for each in checkpoints.iterdir()]
        run.kept = sorted(int(each[1]) for each in found if each)
        best = _COMMITTED.fullmatch((checkpoints / "best").readlink().name)
        run.best_kept = int(best[1]) if best else None
    except OSError:  # no checkpoints, or no best one
        pass
    return run


def apply_journal(run: ReportedRun, lines: list[dict[str, Any]]) -> None:
    """Fill in a run's epochs, attempts and events from its journal.

    Epochs that a restart trains again replace the earlier ones: each epoch counts once.

    Args:
        run: the run to fill in.
        lines: of its journal, in their order.
    """
    replay = _JournalReplay(run)
    for line in lines:
        time_s, event = number(line.get("time_s")), line.get("event")
        if time_s is not None and isinstance(event, str):
            replay.take(event, time_s, line)
    run.epochs, run.repeated = replay.epochs(), replay.repeated
    first: dict[str, int] = {}
    for epoch in run.epochs:
        for name in epoch.broken:
            first.setdefault(name, epoch.number)
    run.missing += [f"{name} is not a number in epoch {epoch}." for name, epoch in first.items()]


class _JournalReplay:
    def __init__(self, run: ReportedRun) -> None:
        self._run = run
        self._by_fit: dict[int, list[Epoch]] = {}
        self._passed_s = 0.0  # in the attempts before this one
        self.repeated = 0

    def epochs(self) -> list[Epoch]:
        """The final epochs; those of a fit that counts from 1 again follow the fit before."""
        found: list[Epoch] = []
        for fit in sorted(self._by_fit):
            own = self._by_fit[fit]
            again = bool(found and own and own[0].in_fit <= found[-1].in_fit)
            offset = found[-1].number if again else 0
            found += [dataclasses.replace(each, number=offset + each.in_fit) for each in own]
        return found

    def take(self, event: str, time_s: float, line: dict[str, Any]) -> None:
        attempts, step = self._run.attempts, _whole(line.get("step"))
        fit = _whole(line["fit"]) if "fit" in line else attempts[-1].fit if attempts else 0
        begins = event in _BEGINS
        if not attempts or (begins and self._is_restart(event, fit)):
            self._start_attempt(time_s, step if begins else 0)
        attempt = attempts[-1]
        attempt.ended_s, attempt.fit = max(time_s, attempt.ended_s), fit
        if begins:
            attempt.end = ""
            attempt.ranks = _whole(line.get("ranks")) or attempt.ranks
            attempt.hosts = _hosts(line.get("hosts")) or attempt.hosts
            if number(line.get("step")) is not None:
                self._discard(fit, lambda epoch: epoch.step > step)
            return
        attempt.event_count += 1
        if event == "epoch":
            self._take_epoch(fit, step, time_s, line)
        else:
            self._take_event(event, step, time_s, line)

    def _is_restart(self, event: str, fit: int) -> bool:
        attempt = self._run.attempts[-1]
        # Else it is the next fit of the same process, or the second of the two lines that start an
        # attempt.
        next_fit = fit > attempt.fit and attempt.end in ("ended", "")
        return not next_fit and (attempt.event_count > 0 or event == "begin")

    def _start_attempt(self, time_s: float, step: int) -> None:
        attempts = self._run.attempts
        if attempts:
            self._passed_s += attempts[-1].ended_s - attempts[-1].began_s
            attempts[-1].end = attempts[-1].end or "killed, or ended without a record"
        attempts.append(RunAttempt(time_s, time_s, step=step))

    def _take_epoch(self, fit: int, step: int, time_s: float, line: dict[str, Any]) -> None:
        in_fit = _whole(line.get("epoch"))
        if in_fit < 1:
            return
        self._discard(fit, lambda epoch: epoch.in_fit >= in_fit)
        values = numbers(line.get("logs"))
        broken = [
            str(name)
            for name, value in table(line.get("logs")).items()
            if isinstance(value, float) and str(name) not in values
        ]
        attempts = self._run.attempts
        epoch = Epoch(
            fit=fit,
            number=in_fit,
            in_fit=in_fit,
            step=step,
            active_s=self._passed_s + time_s - attempts[-1].began_s,
            time_s=time_s,
            values=values,
            broken=tuple(broken),
            performance=table(line.get("performance")),
            attempt=len(attempts) - 1,
        )
        self._by_fit.setdefault(fit, []).append(epoch)

    def _discard(self, fit: int, again: Callable[[Epoch], bool]) -> None:
        epochs = self._by_fit.get(fit, [])
        while epochs and again(epochs[-1]):
            epochs.pop()
            self.repeated += 1

    def _take_event(self, event: str, step: int, time_s: float, line: dict[str, Any]) -> None:
        attempt = self._run.attempts[-1]
        if event == "end":
            attempt.end = "ended"
            return
        text = f"{event} at step {step}"
        if event == "stop":
            attempt.end = f"stopped by {line.get('reason', 'an unknown cause')}"
            text = f"{attempt.end} at step {step}"
        elif event == "stall":
            attempt.end = "stalled"
            text = f"stall, see {line['report']}" if "report" in line else "stall"
        elif event == "checkpoint":
            took_s = number(line.get("seconds"))
            took = "" if took_s is None else f", {quantities.duration(took_s)} to the disk"
            text = f"checkpoint of step {step}{took}"
        self._run.events.append(RunEvent(event, time_s, text, len(self._run.attempts) - 1))


def _whole(value: object) -> int:
    found = number(value)
    return 0 if found is None else int(found)


def _hosts(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, value))) if isinstance(value, list) else ()
