"""The journals on the shared disk, and the trial log that every group builds from all of them."""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUNNING, COMPLETED, INVALID, FAILED = "RUNNING", "COMPLETED", "INVALID", "FAILED"
_SYNC_EVERY_S = 1.0


class Journal:
    """The append-only journal of this process.

    A line is written by one call, so that a reader sees it complete or cut. At most the last
    second's lines are lost when the machine fails.

    Args:
        folder: of all journals of a search; it must exist.
        writer: the writer's name, the start of the file's; each process creates a new file.
    """

    def __init__(self, folder: Path, writer: str) -> None:
        self.path = folder / f"{writer}-{time.time_ns():x}-{secrets.token_hex(3)}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
        self._synced_s = 0.0

    def append(self, event: str, **facts: Any) -> None:
        """Append a line.

        Args:
            event: the kind of event, in one word.
            **facts: JSON values.

        Raises:
            OSError: when it cannot be written.
        """
        line = json.dumps({"time_s": time.time(), "event": event, **facts}) + "\n"
        data = line.encode()
        written = os.write(self._file, data)
        if written != len(data):
            # End the cut line, so that readers skip it alone.
            os.write(self._file, b"\n")
            raise OSError(f"{self.path}: only {written} of {len(data)} bytes were written")
        now_s = time.monotonic()
        if now_s - self._synced_s > _SYNC_EVERY_S:
            os.fsync(self._file)
            self._synced_s = now_s

    def close(self) -> None:
        """Sync and close the file."""
        os.fsync(self._file)
        os.close(self._file)


class JournalReader:
    """Reads the new lines of all journals in a folder.

    Args:
        folder: of the journals.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[str, int] = {}

    def new_lines(self) -> list[dict[str, Any]]:
        """Return the lines since the last call, each journal's in its order."""
        lines: list[dict[str, Any]] = []
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder))
        except FileNotFoundError:
            return lines
        for name in names:
            if name.endswith(".jsonl"):
                lines += self._new_lines_of(name)
        return lines

    def _new_lines_of(self, name: str) -> list[dict[str, Any]]:
        path, offset = self._folder / name, self._offsets.get(name, 0)
        if path.stat().st_size <= offset:
            return []
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        # A line without its end is read by a later call.
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[name] = offset + len(whole)
        found = []
        for line in whole.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # cut by a full disk or a failing machine
                continue
        return found


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
