"""A trial on one group of ranks, which begin it together and agree on how it ended."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any

from keras_tuner import errors
from keras_tuner.engine import trial as trials

from keras_candle import engine as engines
from keras_candle.errors import SearchError
from keras_candle.search.groups import agree_on_end
from keras_candle.search.measurement import Measurement
from keras_candle.search.objectives import metrics_of
from keras_candle.search.trial_training import TrialTraining


class GroupTuner(TrialTraining):
    """Runs the trials of one group: its root asks the oracle and reports, all of its ranks train.

    What ends the search on one rank ends it on all of the group.
    """

    def _next_trial(self) -> Any:
        """The group's next trial, on all its ranks; None when there is none."""
        state: dict[str, Any] | None = None
        problem: Exception | None = None
        if self.engine.is_root:
            try:
                self.pre_create_trial()
                trial = self.oracle.create_trial(self.tuner_id)
            except Exception as error:
                problem = error
            else:
                state = trial.get_state() if trial.status == "RUNNING" else None
        state, problem = self.engine.broadcast((state, problem))
        if problem is not None:
            raise problem
        if state is None or self.engine.is_root:
            return None if state is None else trial
        trial = trials.Trial.from_state(state)
        self.oracle.trials[trial.trial_id] = trial
        return trial

    def _try_run_and_update_trial(self, trial: Any, *fit_args: Any, **fit_kwargs: Any) -> None:
        outcome: Any = None
        fatal: Exception | None = None
        message = ""
        status = "COMPLETED"
        with engines.use(self.engine):
            measurement = Measurement(self.engine.size)
            try:
                results = self.run_trial(trial, *fit_args, **fit_kwargs)
                measured = measurement.take(self._model)
                if self.engine.is_root:
                    outcome = metrics_of(self.oracle, trial, results, measured)
            except Exception as error:
                message = traceback.format_exc()
                status = "FAILED" if isinstance(error, errors.FailedTrialError) else "INVALID"
                if isinstance(error, errors.FatalError | SearchError):
                    fatal = error
        trial.status, trial.message = agree_on_end(self.engine, status, message)
        self._end_together(fatal)
        if trial.status == "COMPLETED" and self.engine.is_root:
            metrics, step = outcome
            self.oracle.update_trial(trial.trial_id, metrics, step=step)

    def _end_together(self, fatal: Exception | None) -> None:
        """Raise what ends the search, on all ranks of the group when one of them has to."""
        told = self.engine.gather_objects(fatal and f"{type(fatal).__name__}: {fatal}")
        if fatal is not None:
            raise fatal
        for rank, problem in enumerate(told):
            if problem:
                raise SearchError(f"Rank {rank} of the group has ended the search: {problem}")

    @contextlib.contextmanager
    def _left_to_others(self) -> Iterator[None]:
        """A search that ends before its trial leaves that to other groups, or to its next call."""
        try:
            yield
        except BaseException:
            # What cannot be written is found by its silence.
            with contextlib.suppress(SearchError):
                self.oracle.leave()
            raise

    def on_trial_end(self, trial: Any) -> None:
        """Keras Tuner's hook, on every rank of the group."""
        problem: Exception | None = None
        if self.engine.is_root:
            try:
                self.oracle.end_trial(trial)
            except Exception as error:
                problem = error
        problem = self.engine.broadcast(problem)
        self._model = None
        if problem is not None:
            raise problem
