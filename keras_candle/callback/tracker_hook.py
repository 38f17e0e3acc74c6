"""The trackers of one fit: on root, beside the training, fed from the run's journal."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_candle.callback.tuner_trial import TunerTrial
from keras_candle.errors import EXIT_RUN_AGAIN, CandleError
from keras_candle.launcher_messages import restarts
from keras_candle.resume.run_session import RunSession
from keras_candle.trackers.base import FAILED, FINISHED, INTERRUPTED, TrackedRun, Tracker
from keras_candle.trackers.identity import id_of_search, identify
from keras_candle.trackers.names import OF_OTHERS, check_packages, make
from keras_candle.trackers.reconciler import CLOSE_S, SILENT_S, Reconciler
from keras_candle.trackers.redaction import redacted
from keras_candle.trackers.tracker_process import TrackerProcess, courier

# Set where keras_candle only tries a program: that is no run of the user's.
_TRIES = (
    "KERAS_CANDLE_AUDIT_PRECISION",
    "KERAS_CANDLE_DRY_RUN_FACTS",
    "KERAS_CANDLE_VERIFY",
    "KERAS_CANDLE_VERIFY_RESUME",
)
# What the user was told of the trackers of a directory in this process.
_told: set[tuple[Path, str]] = set()


class TrackerHook:
    """The trackers of one fit.

    Args:
        run: its run directory, open.
        trackers: names and objects.
        trial: of the search that the fit belongs to, if it does.

    Raises:
        CandleError: on every rank, where root lacks a package.
    """

    def __init__(
        self, run: RunSession, trackers: Sequence[str | Tracker], trial: TunerTrial | None
    ) -> None:
        self._run, self._trackers, self._trial = run, trackers, trial
        self._home = run.directory.path.parent if trial else run.directory.path
        self._courier: TrackerProcess | None = None
        self._mirrors: list[Reconciler] = []
        run.engine.on_root(lambda: check_packages(trackers), CandleError)

    @contextlib.contextmanager
    def during(self, config: str, state: dict[str, Any] | None, resume: str) -> Iterator[None]:
        """Track what happens meanwhile.

        Args:
            config: the text of config.json.
            state: of the checkpoint that is gone on from; None where the training begins.
            resume: see `CandleCallback`.
        """
        if not self._run.engine.is_root or any(name in os.environ for name in _TRIES):
            yield
            return
        begin = resume == "never" and not restarts() and self._run.fit == 0
        try:
            self._start(json.loads(config), state, begin=begin)
        except Exception as cause:  # whatever it is, the other ranks train and wait for this one
            self._print_resumed("begin", cause)
        try:
            yield
        finally:
            status = _status_of(sys.exception())
            try:
                self._end(status)
            except Exception as cause:
                self._print_resumed("end", cause)

    def _print_resumed(self, what: str, cause: Exception) -> None:
        problem = f"{type(cause).__name__}: {cause}"
        self._print("trackers", f"The trackers cannot {what} ({problem}). The training goes on.")

    def _start(self, config: dict[str, Any], state: dict[str, Any] | None, *, begin: bool) -> None:
        run, trial = self._run, self._trial
        # A later fit of a script belongs to the run of its first one.
        goes_on = state is not None or run.fit > 0
        known = (state or {}).get("trackers", {}) if goes_on else None
        run.trackers = identify(run.directory, known, begin=begin)
        if trial:
            config["hyperparameters"] = json.loads(trial.hyperparameters)
        tracked = TrackedRun(
            **run.trackers,
            name=run.directory.path.name,
            directory=run.directory.path,
            home=self._home,
            group=id_of_search(self._home) if trial else "",
            config=redacted(config),
        )
        others = [each for each in self._trackers if each in OF_OTHERS]
        if others:
            self._courier = courier()
            self._courier.open(tracked, others, run.directory.journal, self._print)
        own = [each for each in self._trackers if each not in OF_OTHERS]
        self._mirrors = [self._mirror(each, tracked) for each in own]
        run.noted = self._wake

    def _mirror(self, asked: str | Tracker, tracked: TrackedRun) -> Reconciler:
        name = asked if isinstance(asked, str) else type(asked).__name__
        tracker = make(asked) if isinstance(asked, str) else asked
        run = TrackedRun(**{**vars(tracked), "tell": lambda text: self._print(name, text)})
        return Reconciler(tracker, name, run, self._run.directory.journal)

    def _wake(self) -> None:
        for each in self._mirrors:
            each.wake()

    def _end(self, status: str) -> None:
        # Who asked a job to stop does not wait long.
        within_s = SILENT_S if status == INTERRUPTED else CLOSE_S
        began_s = time.monotonic()
        for each in self._mirrors:
            each.end(status)
        if self._courier is not None:
            self._courier.close(status, within_s)
        for each in self._mirrors:
            if not _has_ended(each, began_s, within_s):
                self._print(
                    each.name,
                    f"{each.name} has not taken all of the run's numbers in time. "
                    f"{self._run.directory.journal} keeps them.",
                )

    def _print(self, name: str, text: str) -> None:
        """Once for each tracker."""
        if (self._home, name) not in _told:
            _told.add((self._home, name))
            self._run.engine.print_on_root(text)


def _status_of(error: BaseException | None) -> str:
    if error is None:
        return FINISHED
    stopped = isinstance(error, SystemExit) and error.code == EXIT_RUN_AGAIN
    return INTERRUPTED if stopped or isinstance(error, KeyboardInterrupt) else FAILED


def _has_ended(mirror: Reconciler, began_s: float, within_s: float) -> bool:
    """Wait for it, as long as something moves."""
    while not mirror.has_ended(0.02):
        deadline_s = min(began_s + within_s, max(began_s, mirror.moved_s) + SILENT_S)
        if time.monotonic() > deadline_s:
            return False
    return True
