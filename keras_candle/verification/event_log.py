"""Append-only event log of one attempt; survives SIGKILL."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Kinds of lines.
RANK, FIT, STEP, END, KILLED = "rank", "fit", "step", "end", "killed"


class EventLog:
    """Appends events as JSON lines to this process's file.

    Args:
        folder: the attempt's folder, the same for all ranks.
    """

    def __init__(self, folder: str) -> None:
        # Stays open: with --auto the program's ranks see an overlay of files.
        name = os.path.join(folder, f"process-{os.getpid()}.jsonl")
        self._file = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def append(self, kind: str, **facts: Any) -> None:
        """Append an event.

        Args:
            kind: RANK, FIT, STEP, END or KILLED.
            **facts: JSON values.
        """
        line = json.dumps({"kind": kind, "time_s": time.time(), **facts}) + "\n"
        os.write(self._file, line.encode())


@dataclass(frozen=True)
class StepEvent:
    """A call of the train function.

    Attributes:
        directory: the name of the run directory.
        before: the run's number of steps before the call.
        now: the run's number of steps after it.
        time_s: the end of the call, in seconds since the epoch.
        fit: the number of its fit in the attempt, from 0.
    """

    directory: str
    before: int
    now: int
    time_s: float
    fit: int


@dataclass(frozen=True)
class AttemptEvents:
    """The events of all ranks of one attempt.

    Attributes:
        ranks: the events of each rank, in their order.
        killed_s: the time at which a rank was killed; None without a kill.
    """

    ranks: Mapping[int, list[dict[str, Any]]]
    killed_s: float | None

    def lines(self, kind: str, rank: int = 0) -> list[dict[str, Any]]:
        """Return a rank's events of a kind."""
        return [each for each in self.ranks.get(rank, []) if each["kind"] == kind]

    @property
    def directories(self) -> dict[str, Path]:
        """The paths of the run directories by name, in the order of their first fits."""
        return {each["directory"]: Path(each["path"]) for each in self.lines(FIT)}

    def steps(self, rank: int = 0) -> list[StepEvent]:
        """Return a rank's steps, in their order."""
        found: list[StepEvent] = []
        fit = -1
        for line in self.ranks.get(rank, []):
            fit += line["kind"] == FIT
            if line["kind"] == STEP:
                place = line["directory"], line["before"], line["now"]
                found.append(StepEvent(*place, line["time_s"], fit))
        return found


def read_attempt(folder: Path) -> AttemptEvents:
    """Read the events of all processes of an attempt.

    Args:
        folder: the attempt's folder.
    """
    ranks: dict[int, list[dict[str, Any]]] = {}
    killed_s = None
    for file in folder.glob("process-*.jsonl"):
        # A kill may have truncated the last line.
        whole = [line for line in file.read_text().splitlines(keepends=True) if line[-1:] == "\n"]
        lines = [json.loads(line) for line in whole]
        ranks |= {line["rank"]: lines for line in lines if line["kind"] == RANK}
        killed_s = next((each["time_s"] for each in lines if each["kind"] == KILLED), killed_s)
    return AttemptEvents(ranks, killed_s)
