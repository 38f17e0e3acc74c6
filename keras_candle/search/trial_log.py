"""The trial log: each trial's state, built from all journals, the same for all readers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

RUNNING, COMPLETED, INVALID, FAILED = "RUNNING", "COMPLETED", "INVALID", "FAILED"


@dataclass
class TrialAttempt:
    """One attempt of a trial by one group.

    Attributes:
        number: from 1.
        time_s: when it was started, in seconds since the epoch.
        owner: its process: host, pid, and that process's start time.
        group: the number of its group.
        tuner: the id of the tuner in that process.
        left: whether its tuner has given it up without an end.
        end: the journal line that ended it; None while it runs.
    """

    number: int
    time_s: float
    owner: dict[str, Any]
    group: int = 0
    tuner: str = ""
    left: bool = False
    end: dict[str, Any] | None = None


@dataclass
class TrialRecord:
    """The record of a trial, built from the journals.

    Attributes:
        trial_id: as Keras Tuner names it.
        values: name to value of its active hyperparameters; those that are found while a trial
            is built or run are added at its end.
        subspace: the subspace that it belongs to; -1: none.
        attempts: by number. The lowest number that ended decides: if two groups ran
            the trial because one seemed dead, all readers take the same result.
        epochs: the objective after each reported epoch, by epoch from 0.
        end: the deciding journal line; None while it runs or waits for another attempt.
    """

    trial_id: str
    values: dict[str, Any]
    subspace: int = -1
    attempts: dict[int, TrialAttempt] = field(default_factory=dict)
    epochs: dict[int, float] = field(default_factory=dict)
    end: dict[str, Any] | None = None

    @property
    def last_attempt(self) -> TrialAttempt:
        """The attempt with the highest number."""
        return self.attempts[max(self.attempts)]

    def take_end(self, line: dict[str, Any]) -> None:
        """Add the journal line that ended one of its attempts."""
        self.attempts[line["start"]].end = line
        undecided = self.end is None or line["start"] < self.end["start"]
        if line["status"] != INVALID and undecided:
            self.end = line
            self.values = line.get("values", self.values)

    @property
    def tries(self) -> int:
        """The number of attempts that ended without a result."""
        return sum(each.end is not None and each.end["status"] == INVALID
                   for each in self.attempts.values())  # fmt: skip

    @property
    def status(self) -> str:
        """The status in Keras Tuner's terms; INVALID: waits for another attempt."""
        if self.end is not None:
            return str(self.end["status"])
        return INVALID if self.last_attempt.end is not None else RUNNING


class TrialLog:
    """The records of all trials of a search, built from journal lines.

    Attributes:
        trials: trial_id to record, in the order in which they were read.
        hyperparameters: configurations of hyperparameters that were found while building.
        failures: the names of the trials that failed.
    """

    def __init__(self) -> None:
        self.trials: dict[str, TrialRecord] = {}
        self.failures: set[str] = set()
        self.hyperparameters: list[dict[str, Any]] = []
        self._waiting: list[dict[str, Any]] = []

    def take(self, lines: list[dict[str, Any]]) -> set[str]:
        """Add journal lines; the order of the journals doesn't matter.

        Args:
            lines: of `JournalReader.new_lines`.

        Returns:
            The trials that have changed.
        """
        changed = set()
        waiting, self._waiting = [*self._waiting, *lines], []
        # A start may be in a journal that is read after the one with its end.
        waiting.sort(key=lambda line: line["event"] != "started")
        for line in waiting:
            if not self._take(line):
                self._waiting.append(line)
            elif "trial" in line:
                changed.add(str(line["trial"]))
        return changed

    def _take(self, line: dict[str, Any]) -> bool:
        event = line["event"]
        if event == "found":
            self.hyperparameters += line["hyperparameters"]
            return True
        if event == "started":
            self._start(line)
            return True
        record = self.trials.get(line.get("trial", ""))
        if record is None or line["start"] not in record.attempts:
            return event not in ("ended", "epoch", "left")
        if event == "ended":
            record.take_end(line)
            if record.status == FAILED:
                self.failures.add(record.trial_id)
        elif event == "left":
            record.attempts[line["start"]].left = True
        elif event == "epoch":
            record.epochs[line["epoch"]] = line["objective"]
        return True

    def _start(self, line: dict[str, Any]) -> None:
        name = str(line["trial"])
        record = self.trials.setdefault(name, TrialRecord(name, line["values"], line["subspace"]))
        record.attempts[line["start"]] = TrialAttempt(
            line["start"],
            line["time_s"],
            line["owner"],
            line.get("group", 0),
            line.get("tuner", ""),
        )

    def ended(self) -> list[TrialRecord]:
        """Return the trials that have ended, sorted by the time of their end."""
        found = [each for each in self.trials.values() if each.end is not None]
        return sorted(found, key=lambda each: (each.end or {})["time_s"])
