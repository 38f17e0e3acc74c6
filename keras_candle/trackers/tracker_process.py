"""Root's side of the process that runs third-party tracker packages."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

from keras_candle.trackers.base import TrackedRun
from keras_candle.trackers.reconciler import SILENT_S

_LEAVE_S = 1.0
# One for all fits of this process: importing the packages takes seconds.
_shared: TrackerProcess | None = None


class TrackerProcess:
    """A child process that sends the metrics of runs to third-party packages, one run at a time."""

    def __init__(self) -> None:
        package = str(Path(__file__).parents[2])
        before = os.environ.get("PYTHONPATH")
        self._process = subprocess.Popen(
            # -P: a module in the working folder may shadow one of Python's.
            [sys.executable, "-P", "-m", "keras_candle.trackers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": f"{package}:{before}" if before else package},
            start_new_session=True,
        )
        self._to, self._from = (
            cast("IO[bytes]", each) for each in (self._process.stdin, self._process.stdout)
        )
        self._report: Callable[[str, str], None] = lambda *_: None
        self._heard = threading.Condition()
        self._heard_s, self._open, self.gone = time.monotonic(), list[str](), False
        self._listener = threading.Thread(target=self._listen, name="candle-trackers", daemon=True)
        self._listener.start()
        atexit.register(self.dismiss, within_s=_LEAVE_S)

    def open(
        self,
        run: TrackedRun,
        names: Sequence[str],
        journal: Path,
        report: Callable[[str, str], None],
    ) -> None:
        """Begin a run.

        Args:
            run: the run to track.
            names: names of the trackers.
            journal: the journal of the run.
            report: called with a tracker's name and a message for the user.
        """
        self._report, self._open = report, list(names)
        # The script may have set variables of the packages since the process started.
        environment = dict(os.environ)
        self._send(
            open=run.to_json(), names=self._open, journal=str(journal), environment=environment
        )

    def close(self, status: str, within_s: float) -> None:
        """End the run; wait while there is progress, then leave the rest to the child process.

        Args:
            status: see `Tracker.close`.
            within_s: maximum time to wait.
        """
        self._send(close=status)
        end_s = time.monotonic() + within_s
        self._heard_s = time.monotonic()
        with self._heard:
            while self._open and not self.gone:
                left_s = min(end_s, self._heard_s + SILENT_S) - time.monotonic()
                if left_s <= 0:
                    break
                self._heard.wait(left_s)
            late, self._open = self._open, []
        for name in late:
            self._report(
                name,
                f"{name} did not take all of the run's metrics in time. The journal keeps them; "
                f"{name} gets the rest when the run is started again.",
            )
        if late:
            self.dismiss()

    def dismiss(self, within_s: float = 0.0) -> None:
        """Let the child process end by itself, and wait for it for a limited time."""
        self.gone = True
        with contextlib.suppress(OSError):
            self._to.close()
        self._listener.join(within_s)

    def _send(self, **message: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._to.write(json.dumps(message).encode() + b"\n")
            self._to.flush()

    def _listen(self) -> None:
        with self._from:
            for line in self._from:
                self._take(json.loads(line))
        code = self._process.wait()
        with contextlib.suppress(OSError):
            self._to.close()
        atexit.unregister(self.dismiss)
        with self._heard:
            lost, self._open, self.gone = self._open, [], True
            self._heard.notify_all()
        for name in lost:
            self._report(
                name,
                f"{name}: the tracker process ended with exit code {code}. The training "
                f"continues; {name} gets the remaining metrics when the run is started again.",
            )

    def _take(self, message: dict[str, Any]) -> None:
        with self._heard:
            self._heard_s = time.monotonic()
            if message.get("closed") in self._open:
                self._open.remove(message["closed"])
            self._heard.notify_all()
        if "tell" in message:
            self._report(message["name"], message["tell"])


def shared_process() -> TrackerProcess:
    """Return the tracker process of this program; start a new one where it has ended."""
    global _shared  # noqa: PLW0603 - one for each program
    if _shared is None or _shared.gone:
        _shared = TrackerProcess()
    return _shared
