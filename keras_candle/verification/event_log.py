"""What the ranks of one start told, line by line: a kill leaves what came before it."""

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
    """Appends lines to a file of this process.

    Args:
        folder: that of the start, the same one for all ranks.
    """

    def __init__(self, folder: str) -> None:
        # Open from here on: with --auto the program's ranks see other files.
        name = os.path.join(folder, f"process-{os.getpid()}.jsonl")
        self._file = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def append(self, kind: str, **facts: Any) -> None:
        """Append a line.

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
        before: steps that the run had taken before it.
        now: steps that it had taken then.
        time_s: when it was over.
        fit: which of the start's fits it belongs to, from 0.
    """

    directory: str
    before: int
    now: int
    time_s: float
    fit: int


@dataclass(frozen=True)
class AttemptEvents:
    """What all ranks of one start told.

    Attributes:
        ranks: the lines of each rank, in their order.
        killed_s: when a rank was killed; None where none was.
    """

    ranks: Mapping[int, list[dict[str, Any]]]
    killed_s: float | None

    def lines(self, kind: str, rank: int = 0) -> list[dict[str, Any]]:
        """A rank's lines of a kind."""
        return [each for each in self.ranks.get(rank, []) if each["kind"] == kind]

    @property
    def directories(self) -> dict[str, Path]:
        """The run directories by name, and where they lie, in the order of their first fits."""
        return {each["directory"]: Path(each["path"]) for each in self.lines(FIT)}

    def steps(self, rank: int = 0) -> list[StepEvent]:
        """A rank's steps, in their order."""
        found: list[StepEvent] = []
        fit = -1
        for line in self.ranks.get(rank, []):
            fit += line["kind"] == FIT
            if line["kind"] == STEP:
                place = line["directory"], line["before"], line["now"]
                found.append(StepEvent(*place, line["time_s"], fit))
        return found


def read_attempt(folder: Path) -> AttemptEvents:
    """What the processes of a start told.

    Args:
        folder: theirs.
    """
    ranks: dict[int, list[dict[str, Any]]] = {}
    killed_s = None
    for file in folder.glob("process-*.jsonl"):
        # The last line may have been cut by a kill.
        whole = [line for line in file.read_text().splitlines(keepends=True) if line[-1:] == "\n"]
        lines = [json.loads(line) for line in whole]
        ranks |= {line["rank"]: lines for line in lines if line["kind"] == RANK}
        killed_s = next((each["time_s"] for each in lines if each["kind"] == KILLED), killed_s)
    return AttemptEvents(ranks, killed_s)
