"""Read a run's directory: its epochs, attempts and events from its journal."""

import contextlib
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from keras_candle.metric_directions import direction_of
from keras_candle.report.formats import duration
from keras_candle.report.reading import json_of, lines_of, mapping, number, numbers, sequence, whole
from keras_candle.run_directory import CHECKPOINTS, JOURNAL, PERFORMANCE

CONFIG = "config.json"
_COLOURS = 8  # of the style sheet
_COMMITTED = re.compile(r"step-(\d{8,})")
_Line = dict[str, Any]  # of the journal
# The events that mark the start of an attempt.
_BEGINS = ("begin", "resume")


@dataclass
class RunAttempt:
    """One attempt: a start of the run's processes, from its first journal line to its last."""

    began_s: float  # since the epoch
    ended_s: float
    step: int = 0  # at which it resumed the run
    end: str = ""  # how it ended, in a word or two; empty without a recorded end
    ranks: int | None = None
    hosts: tuple[str, ...] = ()
    fit: int = 0  # the current one
    event_count: int = 0  # without the lines of its start


class Epoch(NamedTuple):
    """One epoch of the final training history."""

    fit: int
    in_fit: int  # from 1
    step: int
    active_s: float  # since the run's first journal line, without the time when no process ran
    time_s: float  # of its end, since the epoch
    values: dict[str, float]  # finite logs
    broken: tuple[str, ...]  # names of logs that were not finite
    performance: dict[str, Any]
    attempt: int  # that trained it, from 0
    number: int = 0  # from 1, over all fits


class RunEvent(NamedTuple):
    """An event of a run: a checkpoint, a stop request, a stall."""

    kind: str
    time_s: float
    text: str


@dataclass
class ReportedRun:
    """A run, read from its directory."""

    path: Path
    name: str
    number: int = 0  # its index among the report's runs
    config: dict[str, Any] = field(default_factory=dict)
    performance: dict[str, Any] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    attempts: list[RunAttempt] = field(default_factory=list)
    events: list[RunEvent] = field(default_factory=list)
    repeated: int = 0  # epochs that were trained again after a restart
    kept: int = 0  # checkpoints that exist
    missing: list[str] = field(default_factory=list)  # sentences on missing and damaged files

    @property
    def key(self) -> str:
        """The run's key for the page's script."""
        return f"run-{self.number}"

    @property
    def colour(self) -> str:
        """The style class of the run's colour."""
        return f"c{self.number % _COLOURS}"

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics of its epochs, in their order of appearance."""
        return list(dict.fromkeys(name for each in self.epochs for name in each.values))

    @property
    def monitor(self) -> str:
        """The metric that measures its quality; empty without epochs."""
        asked = mapping(mapping(self.config.get("callback")).get("checkpoint")).get("monitor")
        wanted = (asked, "val_loss", "loss", *self.metrics)
        return next((each for each in wanted if each in self.metrics), "")

    def smaller_is_better(self, metric: str) -> bool:
        """Return whether a metric is minimised: by the run's `mode`, else by the metric's name."""
        asked = mapping(mapping(self.config.get("callback")).get("checkpoint"))
        if asked.get("monitor") == metric and asked.get("mode") in ("min", "max"):
            return bool(asked["mode"] == "min")
        return direction_of(metric) != "max"

    def best(self, metric: str) -> Epoch | None:
        """Return the epoch in which a metric was best."""
        known = {e.values[metric]: e for e in reversed(self.epochs) if metric in e.values}
        best = min if self.smaller_is_better(metric) else max
        return known[best(known)] if known else None


def is_run(path: Path) -> bool:
    """Return whether a directory looks like a run directory."""
    written = any((path / name).is_file() for name in (JOURNAL, PERFORMANCE))
    return written or ((path / CONFIG).is_file() and (path / CHECKPOINTS).is_dir())


def read_run(path: Path, name: str, place: int = 0) -> ReportedRun:
    """Read the directory of the run with an index; its `missing` lists what cannot be read."""
    run = ReportedRun(path, name, place)
    files = (CONFIG, PERFORMANCE, JOURNAL)
    run.missing = [f"{each} is not there." for each in files if not (path / each).is_file()]
    run.config = json_of(path / CONFIG, run.missing)
    run.performance = json_of(path / PERFORMANCE, run.missing)
    _replay(run, lines_of(path / JOURNAL, run.missing))
    with contextlib.suppress(OSError):  # without checkpoints
        found = [_COMMITTED.fullmatch(each.name) for each in (path / CHECKPOINTS).iterdir()]
        run.kept = sum(map(bool, found))
    return run


def _replay(run: ReportedRun, lines: list[_Line]) -> None:
    """Fill in a run from its journal; an epoch that is trained again replaces the earlier one."""
    by_fit: dict[int, list[Epoch]] = defaultdict(list)
    trained = 0
    for line in lines:
        time_s, event = number(line.get("time_s")), line.get("event")
        if time_s is None or not isinstance(event, str):
            continue
        attempt = _attempt_of(run.attempts, event, time_s, line)
        epochs, step = by_fit[attempt.fit], whole(line.get("step"))
        if event in _BEGINS and step is not None:
            while epochs and epochs[-1].step > step:
                epochs.pop()
        elif event == "epoch" and (in_fit := whole(line.get("epoch")) or 0) > 0:
            while epochs and epochs[-1].in_fit >= in_fit:
                epochs.pop()
            epochs.append(_epoch(run.attempts, time_s, line))
            trained += 1
        elif event not in (*_BEGINS, "epoch", "end"):
            run.events.append(RunEvent(event, time_s, _described(event, attempt, line)))
    for _, own in sorted(by_fit.items()):  # a fit that counts from 1 again follows the one before
        again = run.epochs and own and own[0].in_fit <= run.epochs[-1].in_fit
        offset = run.epochs[-1].number if again else 0
        run.epochs += [each._replace(number=offset + each.in_fit) for each in own]
    run.repeated = trained - len(run.epochs)
    first = {name: each.number for each in reversed(run.epochs) for name in each.broken}
    run.missing += [f"{name} is not a number in epoch {epoch}." for name, epoch in first.items()]


def _attempt_of(attempts: list[RunAttempt], event: str, time_s: float, line: _Line) -> RunAttempt:
    """The attempt that a line belongs to, updated by the line."""
    fit = whole(line["fit"]) or 0 if "fit" in line else attempts[-1].fit if attempts else 0
    begins = event in _BEGINS
    if not attempts or (begins and _is_restart(attempts[-1], event, fit)):
        for each in attempts[-1:]:
            each.end = each.end or "killed, or ended without a record"
        attempts.append(RunAttempt(time_s, time_s, whole(line.get("step")) or 0 if begins else 0))
    attempt = attempts[-1]
    attempt.ended_s, attempt.fit = max(time_s, attempt.ended_s), fit
    attempt.event_count += not begins
    if begins:
        attempt.end = ""
        attempt.ranks = whole(line.get("ranks")) or attempt.ranks
        hosts = dict.fromkeys(map(str, sequence(line.get("hosts"))))
        attempt.hosts = tuple(hosts) or attempt.hosts
    elif event == "stop":
        attempt.end = f"stopped by {line.get('reason', 'an unknown cause')}"
    elif event in ("end", "stall"):
        attempt.end = "ended" if event == "end" else "stalled"
    return attempt


def _is_restart(attempt: RunAttempt, event: str, fit: int) -> bool:
    # Else it is the next fit of the same process, or the second of the two lines of a start.
    next_fit = fit > attempt.fit and attempt.end in ("ended", "")
    return not next_fit and (attempt.event_count > 0 or event == "begin")


def _epoch(attempts: list[RunAttempt], time_s: float, line: _Line) -> Epoch:
    logs, values = mapping(line.get("logs")), numbers(line.get("logs"))
    passed_s = sum(each.ended_s - each.began_s for each in attempts[:-1])
    return Epoch(
        fit=attempts[-1].fit,
        in_fit=whole(line.get("epoch")) or 0,
        step=whole(line.get("step")) or 0,
        active_s=passed_s + time_s - attempts[-1].began_s,
        time_s=time_s,
        values=values,
        broken=tuple(n for n, each in logs.items() if type(each) is float and n not in values),
        performance=mapping(line.get("performance")),
        attempt=len(attempts) - 1,
    )


def _described(event: str, attempt: RunAttempt, line: _Line) -> str:
    step, took_s = whole(line.get("step")) or 0, number(line.get("seconds"))
    if event == "checkpoint":
        took = "" if took_s is None else f", {duration(took_s)} to the disk"
        return f"checkpoint of step {step}{took}"
    if event == "stall":
        return f"stall, see {line['report']}" if "report" in line else "stall"
    return f"{attempt.end if event == 'stop' else event} at step {step}"
