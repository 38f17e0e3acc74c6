"""Bring one tracker up to date with the journal, even if it blocks, raises or hangs."""

from __future__ import annotations

import contextlib
import json
import math
import re
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_candle.trackers.base import (
    EpochRow,
    TrackedRun,
    Tracker,
    UnreachableError,
    flat,
    redacted,
)

# After this many failures in a row a tracker is paused.
_TRIES = 3
_SOON_S, _LATER_S = 0.2, 60.0
# How long to wait at the end for a tracker without progress, and for one with progress.
SILENT_S, CLOSE_S = 5.0, 30.0
# A server may answer with a page.
_LONGEST_PROBLEM = 500
_FILES = ("performance.json", "report.html")
# Names that trackers get from us; a metric with such a name gets the prefix logs/.
# The beginning of an epoch's line.
_HEAD = re.compile(
    rb'\{"time_s": [\d.]+, "event": "epoch", "fit": \d+, "epoch": \d+, "step": (?P<step>\d+)(?=, )'
)
_OURS = re.compile(r"(epoch|step)\Z|(performance|logs)/")


class JournalFeed:
    """Reads the rows of a journal.

    An epoch that a restart trains again counts once, with its first values, which may have been
    sent already.

    Args:
        journal: the file.
        from_bytes: offset of the run's first line.
        after: rows up to this step are skipped.
    """

    def __init__(self, journal: Path, from_bytes: int = 0, after: int = -1) -> None:
        self._journal, self._at, self._after = journal, from_bytes, after
        self._seen: set[tuple[int, int]] = set()
        self._last = -1

    def rows(self) -> Iterator[EpochRow]:
        """Yield the rows that were added since the last call."""
        for text, end in _texts(self._journal, self._at):
            self._at = end
            line = _object(_head(text, self._after))
            epoch = (_whole(line.get("fit")), _whole(line.get("epoch")))
            if line.get("event") != "epoch" or epoch in self._seen:
                continue
            self._seen.add(epoch)
            # With another number of ranks the same epoch ends at another step.
            self._last = max(_whole(line.get("step")), self._last + 1)
            if self._last > self._after:
                line = _object(text)
                yield EpochRow(self._last, values_of(line), _time_s(line))


def _head(text: bytes, after: int) -> bytes:
    """Return a line without its values, where it is of a step up to `after`.

    A restart may follow 100,000 epochs that the tracker holds: parsing their values takes seconds.
    """
    found = _HEAD.match(text)
    is_held = found and int(found["step"]) <= after and text.endswith(b"}\n")
    return found[0] + b"}" if found and is_held else text


def lines(journal: Path, at: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the journal's complete lines from an offset on, each with its end offset."""
    for text, end in _texts(journal, at):
        if found := _object(text):
            yield found, end


def _object(text: bytes) -> dict[str, Any]:
    """Return the object of a line; empty for a line that is damaged or holds something else."""
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}


def _texts(journal: Path, at: int) -> Iterator[tuple[bytes, int]]:
    try:
        with open(journal, "rb") as file:
            file.seek(at)
            data = file.read()
    except FileNotFoundError:
        return
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        at += len(line)
        yield line, at


def values_of(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of an epoch's line.

    Example:
        >>> values_of({"epoch": 2, "logs": {"loss": 0.5}, "performance": {"time": {"step_s": 0.1}}})
        {'epoch': 2, 'loss': 0.5, 'performance/time/step_s': 0.1}
        >>> values_of({"epoch": 2, "logs": {"epoch": 0.5, "note": "text"}})
        {'epoch': 2, 'logs/epoch': 0.5}
    """
    logs = {
        f"logs/{name}" if _OURS.match(name) else name: value
        for name, value in _table(line, "logs").items()
        if _is_number(value)
    }
    performance = flat(_table(line, "performance"), "performance/")
    finite = {
        name: value
        for name, value in performance.items()
        if _is_number(value) and math.isfinite(value)
    }
    return {"epoch": _whole(line.get("epoch")), **logs, **finite}


def _time_s(line: Mapping[str, Any]) -> float:
    found = line.get("time_s", 0)
    return float(found) if _is_number(found) else 0.0


def _table(line: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = line.get(name)
    return found if isinstance(found, Mapping) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


class Reconciler:
    """Gives a tracker, in a thread, the rows of the journal that it does not hold yet.

    The journal is the queue: nothing waits in memory, and nothing is lost where a tracker is slow.

    Args:
        tracker: receives the rows.
        name: the user's name for it.
        run: the tracked run.
        journal: the journal of the run.
        every_s: interval of reading the journal; None for only when woken.
        ready: called before the tracker starts; may block until the start is allowed.
        progress: called on progress.

    Attributes:
        moved_s: time of the last progress on the monotonic clock.
    """

    def __init__(
        self,
        tracker: Tracker,
        name: str,
        run: TrackedRun,
        journal: Path,
        every_s: float | None = None,
        ready: Callable[[], object] = lambda: None,
        progress: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self._tracker, self._run, self._journal = tracker, run, journal
        self._every_s, self._ready, self._progress = every_s, ready, progress
        self.moved_s = time.monotonic()
        self._feed: JournalFeed | None = None
        self._failures, self._is_open, self._has_reported = 0, False, False
        self._status = ""
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"candle-{name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Read the journal now, since it has a new line."""
        self._wake.set()

    def end(self, status: str) -> None:
        """Give the tracker the remaining rows, then close it."""
        self._status = status
        self._wake.set()

    def has_ended(self, within_s: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _move(self) -> None:
        self.moved_s = time.monotonic()
        self._progress()

    def _live(self) -> None:
        while not self._status:
            self._try(self._give)
            self._wake.wait(self._pause_s())
            self._wake.clear()
        while not self._try(self._give_the_rest) and self._failures < _TRIES:
            time.sleep(_SOON_S)
        if self._failures and self._is_open:
            self._try(lambda: self._tracker.close(self._status))

    def _pause_s(self) -> float | None:
        if self._failures >= _TRIES:
            # While paused, an epoch does not wake it.
            deadline_s = time.monotonic() + _LATER_S
            while not self._status and (left_s := deadline_s - time.monotonic()) > 0:
                self._wake.wait(left_s)
                self._wake.clear()
            return 0
        return _SOON_S if self._failures else self._every_s

    def _try(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except BaseException as error:  # SystemExit too
            self._feed = None  # the tracker reports again which step it holds
            self._failures += _TRIES if isinstance(error, UnreachableError) else 1
            if self._failures >= _TRIES:
                self._report(
                    f"{self.name} does not take the run's metrics ({_problem(error)}). The "
                    f"training continues; {self._journal.name} keeps them, and {self.name} gets "
                    "them when it works again."
                )
        else:
            self._failures = 0
        self._move()
        return not self._failures

    def _give(self) -> None:
        if self._feed is None:
            self._ready()
            self._is_open = False
            held = self._tracker.start(self._run)
            self._is_open = True
            self._move()
            self._tracker.log_config(self._run.config)
            after = _given(self._tracker, self._run) if held is None else held
            self._feed = JournalFeed(self._journal, self._run.from_bytes, after)
        for step in self._tracker.log_epochs(self._feed.rows()):
            object.__setattr__(self._tracker, "_candle_given", (self._run.id, step))
            self._move()

    def _give_the_rest(self) -> None:
        self._give()
        self._give_files()
        self._tracker.close(self._status)

    def _give_files(self) -> None:
        for path in (self._run.directory / name for name in _FILES):
            if path.is_file():
                try:
                    self._tracker.log_file(path)
                except Exception as error:
                    self._report(
                        f"{self.name} has the run's metrics, but does not take {path.name} "
                        f"({_problem(error)}). It is in {self._run.directory}."
                    )
                self._move()

    def _report(self, text: str) -> None:
        if not self._has_reported:
            self._has_reported = True
            self._run.tell(redacted(text))


def _problem(error: BaseException) -> str:
    text = textwrap.shorten(str(error).strip().partition("\n")[0], _LONGEST_PROBLEM)
    return text if isinstance(error, UnreachableError) else f"{type(error).__name__}: {text}"


def _given(tracker: Tracker, run: TrackedRun) -> int:
    """Return the last step of a run that this tracker object received."""
    run_id, step = getattr(tracker, "_candle_given", ("", -1))
    return step if run_id == run.id else -1
