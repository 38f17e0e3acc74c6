"""Record the start and the end of a `candle run` in the folder of the job that it is in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from keras_candle.cluster.job_folder import JobFolder, element_of
from keras_candle.launch.job_launcher import write_to_stderr
from keras_candle.launcher_messages import JOB, NOTIFY_CHECKPOINTS, STARTED_S


class AttemptRecord:
    """A context that records one attempt; outside of a submitted job it records nothing.

    Args:
        environment: variables of this process.

    Attributes:
        variables: of the ranks, so that they report their checkpoints.
        saved_steps: to be filled with the steps of these.
        code: to be set to the exit code; None is recorded if there is none.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        # A program of the job may start a job of its own: that is no attempt.
        is_outermost = JOB in environment and STARTED_S not in environment
        self._folder = JobFolder(Path(environment[JOB])) if is_outermost else None
        self._element = element_of(environment)
        self._restart = 0
        self.variables = {NOTIFY_CHECKPOINTS: "1"} if is_outermost else {}
        self.saved_steps: list[int] = []
        self.code: int | None = None

    def __enter__(self) -> AttemptRecord:
        if self._folder is not None:
            self._restart = len(self._folder.attempts(self._element))
        self._log("start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._log("end", code=self.code, saved_steps=sorted(set(self.saved_steps)))

    def _log(self, event: str, **facts: Any) -> None:
        if self._folder is None:
            return
        try:
            self._folder.log_attempt(event, self._element, self._restart, **facts)
        except OSError as cause:
            text = f"candle: {self._folder.path} cannot be written ({cause}); the job continues\n"
            write_to_stderr(text.encode())
