"""Signals that ask a training to save and stop."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """Records SIGTERM and SIGUSR1 while a training runs; a second SIGTERM ends the process.

    Of nested trainings the outer one records them: all ranks take part in it.

    Attributes:
        received: number of the first signal, 0 before one arrives.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Install the handlers. Outside of the main thread it does nothing: Python forbids it."""
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
        """Restore the earlier handlers."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
