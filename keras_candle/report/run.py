"""The reported run: its epochs, attempts and events, read from its directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_candle.metric_directions import direction_of
from keras_candle.report.reading import number, table

# The number of the style sheet's colours for runs.
COLOURS = 8


@dataclass
class RunAttempt:
    """One attempt: a start of the run's processes.

    Attributes:
        began_s: the time of its first journal line, in seconds since the epoch.
        ended_s: the time of its last journal line.
        end: how it ended, in a word or two; empty without a recorded end.
        ranks: the number of ranks; None if unknown.
        hosts: the hosts of the ranks.
        step: the step at which it resumed the run.
        fit: the number of its current fit.
        event_count: the number of its journal lines after those of its start.
    """

    began_s: float
    ended_s: float
    end: str = ""
    ranks: int | None = None
    hosts: tuple[str, ...] = ()
    step: int = 0
    fit: int = 0
    event_count: int = 0


@dataclass(frozen=True)
class Epoch:
    """One epoch of the final training history.

    Attributes:
        number: from 1, over all fits.
        in_fit: its number in its fit, from 1.
        active_s: time since the run's first journal line, without the time when no process ran.
        time_s: when it ended, in seconds since the epoch.
        values: its finite logs, by name.
        broken: the names of logs that were not finite.
        performance: its speed, as in the journal.
        attempt: the index of the attempt that trained it, from 0.
    """

    fit: int
    number: int
    in_fit: int
    step: int
    active_s: float
    time_s: float
    values: dict[str, float]
    broken: tuple[str, ...]
    performance: dict[str, Any]
    attempt: int


@dataclass(frozen=True)
class RunEvent:
    """An event of a run: a checkpoint, a stop request, a stall.

    Attributes:
        attempt: the index of its attempt, from 0.
    """

    kind: str
    time_s: float
    text: str
    attempt: int


@dataclass
class ReportedRun:
    """A run, read from its directory.

    Attributes:
        path: its directory.
        name: its name in the report.
        number: its index among the report's runs, from 0.
        repeated: the number of epochs that were trained again after a restart.
        kept: the steps of the checkpoints that exist.
        missing: sentences on missing and damaged files.
    """

    path: Path
    name: str
    number: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    performance: dict[str, Any] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    attempts: list[RunAttempt] = field(default_factory=list)
    events: list[RunEvent] = field(default_factory=list)
    repeated: int = 0
    kept: list[int] = field(default_factory=list)
    best_kept: int | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The run's key for the page's script."""
        return f"run-{self.number}"

    @property
    def colour(self) -> str:
        """The style class of the run's colour."""
        return f"c{self.number % COLOURS}"

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics of its epochs, in their order of appearance."""
        return list(dict.fromkeys(name for each in self.epochs for name in each.values))

    @property
    def active_s(self) -> float:
        """The total time in which its processes ran, from the journal."""
        return sum(each.ended_s - each.began_s for each in self.attempts)

    @property
    def ranks(self) -> int | None:
        """The number of ranks of its last attempt."""
        known = [each.ranks for each in self.attempts if each.ranks is not None]
        found = number(self.performance.get("ranks")) or number(self.config.get("ranks"))
        return known[-1] if known else None if found is None else int(found)

    @property
    def samples_per_s(self) -> float | None:
        """The throughput of all ranks over the whole run, else in its last epoch."""
        known = [self.performance, *[each.performance for each in reversed(self.epochs)]]
        found = (number(each.get("samples_per_s")) for each in known)
        return next((each for each in found if each is not None), None)

    @property
    def steps(self) -> int:
        """The number of steps, from its epochs."""
        return max((each.step for each in self.epochs), default=0)

    @property
    def restarts(self) -> int:
        """The number of times its processes were restarted."""
        return max(len(self.attempts) - 1, 0)

    @property
    def checkpoints(self) -> int:
        """The number of checkpoints that were written."""
        return sum(each.kind == "checkpoint" for each in self.events)

    @property
    def monitor(self) -> str | None:
        """The metric that measures its quality."""
        asked = table(table(self.config.get("callback")).get("checkpoint")).get("monitor")
        known = self.metrics
        return next((each for each in (asked, "val_loss", "loss", *known) if each in known), None)

    def smaller_is_better(self, metric: str) -> bool:
        """Return whether a metric is minimised: by the run's `mode`, else by the metric's name."""
        checkpoint = table(table(self.config.get("callback")).get("checkpoint"))
        if checkpoint.get("monitor") == metric and checkpoint.get("mode") in ("min", "max"):
            return bool(checkpoint["mode"] == "min")
        return direction_of(metric) != "max"

    def best(self, metric: str) -> Epoch | None:
        """Return the epoch in which a metric was best."""
        known = [each for each in self.epochs if metric in each.values]
        sign = 1 if self.smaller_is_better(metric) else -1
        return min(known, key=lambda each: sign * each.values[metric], default=None)

    def last(self, metric: str) -> float | None:
        """Return a metric's last value."""
        return next((e.values[metric] for e in reversed(self.epochs) if metric in e.values), None)

    @property
    def state(self) -> str:
        """How the run ended, or that no end is recorded."""
        if not self.attempts:
            return "not started"
        asked = number(table(self.config.get("fit")).get("epochs"))
        done = self.epochs[-1].in_fit if self.epochs else 0
        end = self.attempts[-1].end
        if end == "ended" or (not end and asked is not None and done >= asked):
            return "ended"
        return end or "no end recorded: running, or killed"
