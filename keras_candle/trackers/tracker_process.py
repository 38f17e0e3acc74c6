"""Root's side of the process in which the packages of others run."""

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
_courier: TrackerProcess | None = None


class TrackerProcess:
    """A process that brings the numbers of one run after the other to packages of others."""

    def __init__(self) -> None:
        package = str(Path(__file__).parents[2])
        before = os.environ.get("PYTHONPATH")
        self._process = subprocess.Popen(
            # -P: a module in the folder that it starts in may have the name of one of Python's.
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
        self._tell: Callable[[str, str], None] = lambda *_: None
        self._heard = threading.Condition()
        self._heard_s, self._open, self.gone = time.monotonic(), list[str](), False
        self._listener = threading.Thread(target=self._listen, name="candle-courier", daemon=True)
        self._listener.start()
        atexit.register(self.dismiss, within_s=_LEAVE_S)

    def open(
        self, run: TrackedRun, names: Sequence[str], journal: Path, tell: Callable[[str, str], None]
    ) -> None:
        """Begin a run.

        Args:
            run: whose numbers are brought.
            names: of the trackers.
            journal: where the numbers are.
            tell: gets a tracker's name, and what the user is to know of it.
        """
        self._tell, self._open = tell, list(names)
        # The script may have set what the packages look at since the process began.
        environment = dict(os.environ)
        self._send(
            open=run.to_json(), names=self._open, journal=str(journal), environment=environment
        )

    def close(self, status: str, within_s: float) -> None:
        """End the run. Waits as long as something moves, and then leaves the rest behind.

        Args:
            status: see `Tracker.close`.
            within_s: for longer it does not wait in any case.
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
            self._tell(
                name,
                f"{name} has not taken all of the run's numbers in time. The journal keeps them; "
                f"{name} gets what it has not got when the run is started again.",
            )
        if late:
            self.dismiss()

    def dismiss(self, within_s: float = 0.0) -> None:
        """Let it end by itself; wait so long for it."""
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
            self._tell(
                name,
                f"{name}: the process that brings the run's numbers there has ended with code "
                f"{code}. The training goes on; {name} gets what it has not got when the run is "
                "started again.",
            )

    def _take(self, message: dict[str, Any]) -> None:
        with self._heard:
            self._heard_s = time.monotonic()
            if message.get("closed") in self._open:
                self._open.remove(message["closed"])
            self._heard.notify_all()
        if "tell" in message:
            self._tell(message["name"], message["tell"])


def courier() -> TrackerProcess:
    """The one of this process; a new one where it is gone."""
    global _courier  # noqa: PLW0603 - one for each process
    if _courier is None or _courier.gone:
        _courier = TrackerProcess()
    return _courier
