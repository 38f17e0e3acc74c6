"""Write checkpoints asynchronously, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Writer:
    """Runs jobs in a thread, one at a time; a second job waits for the first."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, job: Callable[[], Any]) -> None:
        """Run a job asynchronously, after the previous one.

        Raises:
            BaseException: the error of the previous job.
        """
        self.wait()
        # Not a daemon: a process waits at its end for its last checkpoint.
        self._thread = threading.Thread(target=self._run, args=(job,), name="candle-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the job under way.

        Raises:
            BaseException: the job's error, once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise the job's error, once, without waiting for the job."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether a job's error has not been raised yet."""
        return self._error is not None

    def _run(self, job: Callable[[], Any]) -> None:
        try:
            job()
        except BaseException as caught:
            self._error = caught
