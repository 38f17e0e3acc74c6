"""Checkpoints written behind the training's back, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Writer:
    """A thread that runs one job after the other. A second one waits for the first."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, job: Callable[[], Any]) -> None:
        """Run a job behind, after the one before it.

        Raises:
            BaseException: what the job before raised.
        """
        self.wait()
        # No daemon: a process that ends waits for its last checkpoint.
        self._thread = threading.Thread(target=self._run, args=(job,), name="candle-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is written any more.

        Raises:
            BaseException: what the job raised, once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what the job raised, once, without waiting for it."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether there is something to raise."""
        return self._error is not None

    def _run(self, job: Callable[[], Any]) -> None:
        try:
            job()
        except BaseException as caught:
            self._error = caught
