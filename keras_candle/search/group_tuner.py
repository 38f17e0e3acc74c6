"""A trial on one group of ranks, which begin it together and agree on how it ended."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
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
        begun: list[Any] = []

        def begin() -> dict[str, Any] | None:
            self.pre_create_trial()
            trial = self.oracle.create_trial(self.tuner_id)
            begun.append(trial)
            state: dict[str, Any] = trial.get_state()
            return state if trial.status == "RUNNING" else None

        state = self._on_root(begin)
        if state is None or begun:
            return begun[0] if state is not None else None
        trial = trials.Trial.from_state(state)
        self.oracle.trials[trial.trial_id] = trial
        return trial

    def _on_root(self, work: Callable[[], Any]) -> Any:
        """Run what can fail on the group's root, and let it fail on all ranks of the group."""
        return work() if self.engine.size == 1 else self.engine.on_root(work, SearchError)

    def _on_each(self, hook: Callable[..., Any], *arguments: Any) -> None:
        """Call what can fail on one rank of the group, and let it fail on all of them."""
        if self.engine.size == 1:
            hook(*arguments)
        else:
            self.engine.gather_results(lambda: hook(*arguments) and None, SearchError)

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
        if trial.status == "COMPLETED":
            self._on_root(lambda: self._report(trial, *outcome))

    def _report(self, trial: Any, metrics: dict[str, Any], step: int) -> None:
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
    def _left_to_groups(self) -> Iterator[None]:
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
        self._model = None
        self._on_root(lambda: self.oracle.end_trial(trial))
