"""One run as its directory tells it: epochs, starts of its processes, and what happened when."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_candle.metric_directions import direction_of
from keras_candle.report.reading import number, table

# Of the style sheet, for runs.
COLOURS = 8


@dataclass
class RunAttempt:
    """One start of the run's processes.

    Attributes:
        began_s: its first sign, in seconds since the epoch.
        ended_s: its last one.
        end: how it ended, in a word or two; empty where nothing tells of an end.
        ranks: how many; None where nothing tells.
        hosts: on which they ran.
        step: of the run at which it went on.
        fit: the number of the fit that it is at.
        events: how many lines tell of it, but for those of its begin.
    """

    began_s: float
    ended_s: float
    end: str = ""
    ranks: int | None = None
    hosts: tuple[str, ...] = ()
    step: int = 0
    fit: int = 0
    events: int = 0


@dataclass(frozen=True)
class Epoch:
    """One epoch whose result counts.

    Attributes:
        number: from 1, over all fits.
        in_fit: its number in its fit, from 1.
        active_s: time since the run's first sign, without the time when no process ran.
        time_s: when it was over, in seconds since the epoch.
        values: its numbers, by name.
        broken: names of what was not a finite number.
        performance: its speed, as the journal has it.
        start: the number of the start that trained it, from 0.
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
    start: int


@dataclass(frozen=True)
class RunEvent:
    """Something that happened at one moment: a checkpoint, a stop, a stall.

    Attributes:
        start: the number of the start in which it did, from 0.
    """

    kind: str
    time_s: float
    text: str
    start: int


@dataclass
class ReportedRun:
    """One run.

    Attributes:
        path: its directory.
        name: by which the report calls it.
        number: its place among the report's runs, from 0.
        repeated: how many epochs were trained again after a restart.
        kept: steps of the checkpoints that lie there.
        missing: sentences on what could not be read.
    """

    path: Path
    name: str
    number: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    performance: dict[str, Any] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    starts: list[RunAttempt] = field(default_factory=list)
    marks: list[RunEvent] = field(default_factory=list)
    repeated: int = 0
    kept: list[int] = field(default_factory=list)
    best_kept: int | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """By which the page's script knows it."""
        return f"run-{self.number}"

    @property
    def colour(self) -> str:
        """The style in which it is drawn beside others."""
        return f"c{self.number % COLOURS}"

    @property
    def metrics(self) -> list[str]:
        """Names of all numbers that its epochs have, in their order of appearance."""
        return list(dict.fromkeys(name for each in self.epochs for name in each.values))

    @property
    def active_s(self) -> float:
        """How long its processes ran, as far as the journal tells."""
        return sum(each.ended_s - each.began_s for each in self.starts)

    @property
    def ranks(self) -> int | None:
        """How many there were at last."""
        told = [each.ranks for each in self.starts if each.ranks is not None]
        found = number(self.performance.get("ranks")) or number(self.config.get("ranks"))
        return told[-1] if told else None if found is None else int(found)

    @property
    def samples_per_s(self) -> float | None:
        """Of all ranks together, over the whole run, else in its last epoch."""
        told = [self.performance, *[each.performance for each in reversed(self.epochs)]]
        found = (number(each.get("samples_per_s")) for each in told)
        return next((each for each in found if each is not None), None)

    @property
    def steps(self) -> int:
        """How many it has taken, as far as its epochs tell."""
        return max((each.step for each in self.epochs), default=0)

    @property
    def restarts(self) -> int:
        """How often its processes were started again."""
        return max(len(self.starts) - 1, 0)

    @property
    def checkpoints(self) -> int:
        """How many were written."""
        return sum(each.kind == "checkpoint" for each in self.marks)

    @property
    def monitor(self) -> str | None:
        """The metric by which its quality is told."""
        asked = table(table(self.config.get("callback")).get("checkpoint")).get("monitor")
        known = self.metrics
        return next((each for each in (asked, "val_loss", "loss", *known) if each in known), None)

    def smaller_is_better(self, metric: str) -> bool:
        """Which way a metric gets better: as the run was told, else by its name."""
        checkpoint = table(table(self.config.get("callback")).get("checkpoint"))
        if checkpoint.get("monitor") == metric and checkpoint.get("mode") in ("min", "max"):
            return bool(checkpoint["mode"] == "min")
        return direction_of(metric) != "max"

    def best(self, metric: str) -> Epoch | None:
        """The epoch in which a metric was best."""
        told = [each for each in self.epochs if metric in each.values]
        sign = 1 if self.smaller_is_better(metric) else -1
        return min(told, key=lambda each: sign * each.values[metric], default=None)

    def last(self, metric: str) -> float | None:
        """A metric's last value."""
        return next((e.values[metric] for e in reversed(self.epochs) if metric in e.values), None)

    @property
    def state(self) -> str:
        """How it ended, or that nothing tells of an end."""
        if not self.starts:
            return "nothing happened yet"
        asked = number(table(self.config.get("fit")).get("epochs"))
        done = self.epochs[-1].in_fit if self.epochs else 0
        end = self.starts[-1].end
        if end == "ended" or (not end and asked is not None and done >= asked):
            return "ended"
        return end or "no end recorded: under way, or killed"
