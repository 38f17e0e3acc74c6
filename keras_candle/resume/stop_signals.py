"""Signals that ask a training to save and stop."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """Takes note of SIGTERM and SIGUSR1 while a training runs; a second SIGTERM ends at once.

    Of a training inside of another's callback the outer one takes note: all ranks are in that one.

    Attributes:
        received: the signal's number, 0 before there was one.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Begin. Outside of the main thread, Python has no signals."""
        taken = any(
            isinstance(getattr(signal.getsignal(each), "__self__", None), StopSignals)
            for each in STOP_SIGNALS
        )
        if threading.current_thread() is threading.main_thread() and not taken:
            self._before = {each: signal.signal(each, self._record) for each in STOP_SIGNALS}

    def _record(self, number: int, _: FrameType | None) -> None:
        if self.received == signal.SIGTERM == number:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = self.received or number

    def stop_listening(self) -> None:
        """Let the handlers from before take over again."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
