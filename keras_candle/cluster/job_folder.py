"""The folder of a submitted job, candle-jobs/NAME: what was asked for, its starts and their ends.

- job.sh: the script that the scheduler runs
- job.json: name, scheduler, id, submitted_s, directory, nodes, ranks, array, command, requeue_by
- output.log: the job's output; that of an array's element is output-ELEMENT.log
- attempts.jsonl: one line at the start and one at the end of each `candle run`
- runs.jsonl: the run directories in which its fits have begun
- cancelled, or cancelled-ELEMENT: there once `candle cancel` ends it, which is then not requeued
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_candle.launcher_messages import ELEMENT, array_element

JOBS = "candle-jobs"
SCRIPT = "job.sh"


@dataclass(frozen=True)
class Attempt:
    """One start of a job's `candle run`.

    Attributes:
        started_s: seconds since the epoch.
        ended_s: None where it has not ended, or its end was not recorded.
        code: the exit code of `candle run`; None likewise.
        saved_steps: steps of the checkpoints that it wrote.
    """

    started_s: float
    ended_s: float | None = None
    code: int | None = None
    saved_steps: tuple[int, ...] = ()


class JobFolder:
    """The files of one job.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.script = path / SCRIPT
        self._facts = path / "job.json"
        self._attempts = path / "attempts.jsonl"
        # Of an array of thousands, the file is read once and not for each element.
        self._read: tuple[tuple[int, int], dict[int | None, list[Attempt]]] = (0, 0), {}

    def facts(self) -> dict[str, Any]:
        """Return the content of job.json; empty where there is none that can be read."""
        with contextlib.suppress(OSError, ValueError):
            facts = json.loads(self._facts.read_text())
            if isinstance(facts, dict):
                return facts
        return {}

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write job.json. A reader sees the earlier or the new content.

        Raises:
            OSError: when it cannot be written.
        """
        part = self._facts.with_name(f".job.json-{os.getpid()}")
        part.write_text(json.dumps(facts, indent=1) + "\n")
        part.replace(self._facts)

    def cancel(self, element: int | None = None) -> None:
        """Mark the job, or one element of it, as cancelled: then it is not requeued.

        Raises:
            OSError: when it cannot be written.
        """
        self._mark(element).touch()

    def keep(self, element: int | None = None) -> None:
        """Take the mark of `cancel` back."""
        self._mark(element).unlink(missing_ok=True)

    def is_cancelled(self, element: int | None = None) -> bool:
        """Return whether the job, or the element, is marked as cancelled."""
        return self._mark(None).exists() or self._mark(element).exists()

    def _mark(self, element: int | None) -> Path:
        return self.path / ("cancelled" if element is None else f"cancelled-{element}")

    def output(self, element: int | None = None) -> Path:
        """Return the file of the job's output, or of one element's."""
        return self.path / ("output.log" if element is None else f"output-{element}.log")

    def log_attempt(self, event: str, element: int | None, restart: int, **facts: Any) -> None:
        """Append a line to attempts.jsonl.

        Args:
            event: "start" or "end".
            element: of an array.
            restart: how often the scheduler has started the job again.
            **facts: JSON values; "code" and "saved_steps" of an end.

        Raises:
            OSError: when it cannot be written.
        """
        line = {
            "time_s": round(time.time(), 3),
            "event": event,
            "element": element,
            "restart": restart,
            "code": None,
            "saved_steps": [],
            **facts,
        }
        _append(self._attempts, line)

    def attempts(self, element: int | None = None) -> list[Attempt]:
        """Return the starts of the job, or of one element, in their order."""
        try:
            stat = self._attempts.stat()
        except OSError:
            return []
        state = stat.st_size, stat.st_mtime_ns
        if self._read[0] != state:
            self._read = state, _attempts_by_element(json_lines(self._attempts))
        return list(self._read[1].get(element, ()))

    def log_run(self, run_directory: Path, element: int | None) -> None:
        """Append a run directory in which a fit of the job begins to runs.jsonl.

        Raises:
            OSError: when it cannot be written.
        """
        line = {
            "time_s": round(time.time(), 3),
            "run_directory": str(run_directory),
            "element": element,
        }
        _append(self.path / "runs.jsonl", line)

    def run_directories(self, element: int | None = None) -> list[Path]:
        """Return the run directories in which the job's fits have begun, each once.

        Args:
            element: of an array, whose fits alone to regard; None for all.
        """
        lines = json_lines(self.path / "runs.jsonl")
        of_it = (line for line in lines if element in (None, line.get("element")))
        runs = (line.get("run_directory") for line in of_it)
        return [Path(each) for each in dict.fromkeys(filter(None, runs))]


def _attempts_by_element(lines: Iterable[dict[str, Any]]) -> dict[int | None, list[Attempt]]:
    found: dict[int | None, list[Attempt]] = {}
    for line in lines:
        element, time_s = line.get("element"), line.get("time_s")
        if not isinstance(element, int | None) or not isinstance(time_s, float | int):
            continue
        of_it = found.setdefault(element, [])
        if line.get("event") == "start":
            of_it.append(Attempt(time_s))
        elif line.get("event") == "end" and of_it:
            saved = tuple(line.get("saved_steps") or ())
            of_it[-1] = Attempt(of_it[-1].started_s, time_s, line.get("code"), saved)
    return found


def _append(path: Path, line: Mapping[str, Any]) -> None:
    # One write, as elements share the file; it first ends a line that a full disk has cut.
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, b"\n" * is_cut + f"{json.dumps(line)}\n".encode())
    finally:
        os.close(descriptor)


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file of lines, without empty, cut and foreign lines."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            content = json.loads(line)
            if isinstance(content, dict):
                yield content


def element_of(environment: Mapping[str, str]) -> int | None:
    """Return this process's element of its job array; None where it is in none.

    Args:
        environment: variables of this process.
    """
    return array_element(environment)[0] if ELEMENT in environment else None
