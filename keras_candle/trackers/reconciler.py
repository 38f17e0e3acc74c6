"""Keeps one tracker like the journal, whatever it does: waits, raises, or hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from keras_candle.trackers.base import TrackedRun, Tracker
from keras_candle.trackers.journal_feed import JournalFeed
from keras_candle.trackers.probe import UnreachableError
from keras_candle.trackers.redaction import redacted

# After so many failures in a row a tracker is left alone for a while.
_TRIES = 3
_SOON_S, _LATER_S = 0.2, 60.0
# At the end, one in which nothing moves is waited for so long, and one in which something does.
SILENT_S, CLOSE_S = 5.0, 30.0
_FILES = ("performance.json", "report.html")


class Reconciler:
    """A thread that gives a tracker what it does not hold yet.

    The journal is the queue: nothing waits in memory, and nothing is lost where a tracker is slow.

    Args:
        tracker: who gets the rows.
        name: what the user calls it.
        run: whose rows.
        journal: their file.
        every_s: how often to look; None for only when woken.
        ready: called before the tracker begins; waits until it may.
        progress: called when something went forward.

    Attributes:
        moved_s: when that was last, on the monotonic clock.
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
        self._failures, self._told = 0, False
        self._status = ""
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"candle-{name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something new in the journal."""
        self._wake.set()

    def end(self, status: str) -> None:
        """The run is over: give the tracker the rest, and close it."""
        self._status = status
        self._wake.set()

    def has_ended(self, within_s: float) -> bool:
        """Whether the thread has come to its end; waits for it."""
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

    def _pause_s(self) -> float | None:
        if self._failures >= _TRIES:
            # Between its tries it is not to be woken for each epoch.
            deadline_s = time.monotonic() + _LATER_S
            while not self._status and (left_s := deadline_s - time.monotonic()) > 0:
                self._wake.wait(left_s)
                self._wake.clear()
            return 0
        return _SOON_S if self._failures else self._every_s

    def _try(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except BaseException as error:  # also what would end the program
            self._feed = None  # what the tracker holds is for itself to say
            self._failures += _TRIES if isinstance(error, UnreachableError) else 1
            if self._failures >= _TRIES and not self._told:
                self._told = True
                self._report(error)
        else:
            self._failures = 0
        self._move()
        return not self._failures

    def _give(self) -> None:
        if self._feed is None:
            self._ready()
            held = self._tracker.start(self._run)
            self._move()
            self._tracker.log_config(self._run.config)
            after = _given(self._tracker, self._run) if held is None else held
            self._feed = JournalFeed(self._journal, self._run.from_bytes, after)
        for row in self._feed.rows():
            self._tracker.log(row.values, row.step)
            object.__setattr__(self._tracker, "_candle_given", (self._run.id, row.step))
            self._move()

    def _give_the_rest(self) -> None:
        self._give()
        for path in (self._run.directory / name for name in _FILES):
            if path.is_file():
                self._tracker.log_file(path)
        self._tracker.close(self._status)

    def _report(self, error: BaseException) -> None:
        text = str(error).strip().partition("\n")[0]
        what = text if isinstance(error, UnreachableError) else f"{type(error).__name__}: {text}"
        self._run.tell(
            redacted(
                f"{self.name} does not take the run's numbers ({what}). The training goes on; "
                f"{self._journal.name} keeps them, and {self.name} gets them when it can."
            )
        )


def _given(tracker: Tracker, run: TrackedRun) -> int:
    """The last step that this object was given of a run."""
    run_id, step = getattr(tracker, "_candle_given", ("", -1))
    return step if run_id == run.id else -1
