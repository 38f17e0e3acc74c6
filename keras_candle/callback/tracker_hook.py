"""The journal of one fit, and its trackers, which are fed from it.

Trackers are on root, outside of the training's thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_candle.callback.epoch_values import EpochLogs
from keras_candle.errors import EXIT_RUN_AGAIN, CandleError
from keras_candle.launcher_messages import AUDIT_PRECISION, VERIFY, VERIFY_RESUME, restarts
from keras_candle.performance.recorder import PerformanceRecorder
from keras_candle.resume.data_state import FitProgress
from keras_candle.resume.run_session import RunSession, TunerTrial
from keras_candle.run_directory import JOURNAL
from keras_candle.trackers.base import (
    FAILED,
    FINISHED,
    IN_TRACKER_PROCESS,
    INTERRUPTED,
    TrackedRun,
    Tracker,
    check_packages,
    holds,
    make,
    names_of,
    redacted,
)
from keras_candle.trackers.identity import id_of_search, identify
from keras_candle.trackers.reconciler import CLOSE_S, SILENT_S, Reconciler
from keras_candle.trackers.tracker_process import TrackerProcess, shared_process
from keras_candle.training.fit_chain import FitHook, Place

# Set where keras_candle only tests a program: then nothing is tracked.
_TEST_VARIABLES = (
    AUDIT_PRECISION,
    "KERAS_CANDLE_DRY_RUN_FACTS",
    VERIFY,
    VERIFY_RESUME,
)
# (directory, tracker or metric) of the messages that this process has printed.
_printed: set[tuple[Path, str]] = set()
_MOST_NAMES = 6


class JournalHook(FitHook):
    """Logs the beginning, the epochs and the end of a fit.

    Args:
        run: session of the run directory.
        progress: the fit's position.
        performance: measures the fit.
        logs: has what is not recorded of an epoch.
    """

    place = Place.JOURNAL

    def __init__(
        self,
        run: RunSession,
        progress: FitProgress,
        performance: PerformanceRecorder,
        logs: EpochLogs,
    ) -> None:
        self._run, self._progress, self._performance, self._logs = run, progress, performance, logs

    def begin_fit(self) -> None:
        """Log where the fit begins, and the ranks' hosts."""
        engine = self._run.engine
        hosts = list(dict.fromkeys(engine.gather_to_root(socket.gethostname()) or ()))
        self._run.log_event("begin", step=self._progress.step, ranks=engine.size, hosts=hosts)

    def after_epoch(self, epoch: int, logs: dict[str, Any], values: dict[str, Any]) -> None:  # noqa: ARG002
        """Log the epoch's metrics and performance."""
        reached = self._performance.of_epoch()
        refused = {name: f"not recorded, {why}" for name, why in self._logs.refused.items()}
        self._report({**refused, **untracked(values, self._run.tracker_names)})
        self._run.log_event(
            "epoch", epoch=epoch + 1, step=self._progress.step, logs=values, performance=reached
        )

    def _report(self, reasons: Mapping[str, str]) -> None:
        """Print once for each metric why it is not recorded, or not tracked."""
        home, by_reason = self._run.home, defaultdict(list)
        for name, reason in reasons.items():
            if (home, f"logs/{name}") not in _printed:
                _printed.add((home, f"logs/{name}"))
                by_reason[reason].append(name)
        for reason, names in by_reason.items():
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            listed = ", ".join(repr(each[:80]) for each in names[:_MOST_NAMES])
            self._run.engine.print_on_root(f"The logs' {listed}{more}: {reason}.")

    def after_fit(self) -> None:
        """Log the end."""
        self._run.log_event("end", step=self._progress.step)
        self._run.end_fit(self._progress.step)


def untracked(values: Mapping[str, Any], trackers: Sequence[str]) -> dict[str, str]:
    """Return by name why trackers do not get a value of an epoch.

    Args:
        values: those that the journal keeps.
        trackers: the names of the trackers.

    Example:
        >>> untracked({"loss": 0.5, "note": "x"}, ["csv"])
        {'note': 'text is kept in journal.jsonl, trackers take only numbers'}
    """
    reasons = {}
    for name, value in values.items() if trackers else ():
        without = [each for each in trackers if not holds(each, value)]
        if value is None or isinstance(value, str):
            kind = "None" if value is None else "text"
            reasons[name] = f"{kind} is kept in {JOURNAL}, trackers take only numbers"
        elif without:
            reasons[name] = f"{JOURNAL} keeps it, it is too large for {', '.join(without)}"
    return reasons


class TrackerHook:
    """Starts and ends the trackers of one fit, on root.

    Args:
        run: session of the run directory, open.
        trackers: names and objects.
        trial: the trial of a search that the fit belongs to; None outside of a search.

    Raises:
        CandleError: on every rank, where root lacks a package.
    """

    def __init__(
        self, run: RunSession, trackers: Sequence[str | Tracker], trial: TunerTrial | None
    ) -> None:
        self._run, self._trackers, self._trial = run, trackers, trial
        self._process: TrackerProcess | None = None
        self._reconcilers: list[Reconciler] = []
        run.engine.on_root(lambda: check_packages(trackers), CandleError)

    @contextlib.contextmanager
    def during(self, config: str, state: dict[str, Any] | None, resume: str) -> Iterator[None]:
        """Track the fit within this context.

        Args:
            config: the text of config.json.
            state: state of the checkpoint that is resumed; None for a fit from the beginning.
            resume: see `CandleCallback`.
        """
        if not self._run.engine.is_root or any(name in os.environ for name in _TEST_VARIABLES):
            yield
            return
        begin = resume == "never" and not restarts() and self._run.fit == 0
        try:
            self._start(json.loads(config), state, begin=begin)
        except Exception as cause:  # any error: the remaining ranks train and wait for this one
            self._print_failure("begin", cause)
        try:
            yield
        finally:
            status = _status_of(sys.exception())
            try:
                self._end(status)
            except Exception as cause:
                self._print_failure("end", cause)

    def _print_failure(self, action: str, cause: Exception) -> None:
        problem = f"{type(cause).__name__}: {cause}"
        self._print(
            "trackers", f"The trackers cannot {action} ({problem}). The training continues."
        )

    def _start(self, config: dict[str, Any], state: dict[str, Any] | None, *, begin: bool) -> None:
        run, trial = self._run, self._trial
        # A later fit of a script belongs to the run of its first one.
        continues = state is not None or run.fit > 0
        known = (state or {}).get("trackers", {}) if continues else None
        run.trackers = identify(run.directory, known, begin=begin)
        if trial:
            config["hyperparameters"] = json.loads(trial.hyperparameters)
        tracked = TrackedRun(
            **run.trackers,
            name=run.directory.path.name,
            directory=run.directory.path,
            home=run.home,
            group=id_of_search(run.home) if trial else "",
            config=redacted(config),
        )
        separate = [each for each in self._trackers if each in IN_TRACKER_PROCESS]
        if separate:
            self._process = shared_process()
            self._process.open(tracked, separate, run.directory.journal, self._print)
        named = names_of(self._trackers)
        self._reconcilers = [
            self._reconciler(each, name, tracked)
            for name, each in named.items()
            if each not in IN_TRACKER_PROCESS
        ]
        run.tracker_names, run.on_event = tuple(named), self._wake

    def _reconciler(self, asked: str | Tracker, name: str, tracked: TrackedRun) -> Reconciler:
        tracker = make(asked) if isinstance(asked, str) else asked
        run = TrackedRun(**{**vars(tracked), "tell": lambda text: self._print(name, text)})
        return Reconciler(tracker, name, run, self._run.directory.journal)

    def _wake(self) -> None:
        for each in self._reconcilers:
            each.wake()

    def _end(self, status: str) -> None:
        # A job that was asked to stop has little time.
        within_s = SILENT_S if status == INTERRUPTED else CLOSE_S
        began_s = time.monotonic()
        for each in self._reconcilers:
            each.end(status)
        if self._process is not None:
            self._process.close(status, within_s)
        for each in self._reconcilers:
            if not _has_ended(each, began_s, within_s):
                self._print(
                    each.name,
                    f"{each.name} did not take all of the run's metrics in time. "
                    f"{self._run.directory.journal} keeps them.",
                )

    def _print(self, name: str, text: str) -> None:
        """Print once for each tracker."""
        if (self._run.home, name) not in _printed:
            _printed.add((self._run.home, name))
            self._run.engine.print_on_root(text)


def _status_of(error: BaseException | None) -> str:
    if error is None:
        return FINISHED
    stopped = isinstance(error, SystemExit) and error.code == EXIT_RUN_AGAIN
    return INTERRUPTED if stopped or isinstance(error, KeyboardInterrupt) else FAILED


def _has_ended(reconciler: Reconciler, began_s: float, within_s: float) -> bool:
    """Wait for a reconciler as long as it makes progress; return whether it ended."""
    while not reconciler.has_ended(0.02):
        deadline_s = min(began_s + within_s, max(began_s, reconciler.moved_s) + SILENT_S)
        if time.monotonic() > deadline_s:
            return False
    return True
