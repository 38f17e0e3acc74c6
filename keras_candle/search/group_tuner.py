"""A tuner that runs each trial on one group of ranks."""

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

    An error that ends the search on one rank ends it on all ranks of the group.
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
        """Run a function on the group's root; an error is raised on all ranks of the group."""
        return work() if self.engine.size == 1 else self.engine.on_root(work, SearchError)

    def _on_all_ranks(self, hook: Callable[..., Any], *arguments: Any) -> None:
        """Run a hook on each rank of the group; an error of one rank is raised on all of them."""
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
        self._raise_on_all_ranks(fatal)
        if trial.status == "COMPLETED":
            self._on_root(lambda: self._report(trial, *outcome))

    def _report(self, trial: Any, metrics: dict[str, Any], step: int) -> None:
        self.oracle.update_trial(trial.trial_id, metrics, step=step)

    def _raise_on_all_ranks(self, fatal: Exception | None) -> None:
        """Raise a fatal error of any rank on all ranks of the group."""
        problems = self.engine.gather_objects(fatal and f"{type(fatal).__name__}: {fatal}")
        if fatal is not None:
            raise fatal
        for rank, problem in enumerate(problems):
            if problem:
                raise SearchError(f"Rank {rank} of the group has ended the search: {problem}")

    @contextlib.contextmanager
    def _leave_on_error(self) -> Iterator[None]:
        """Give up the running trial on an error, for another group or the next search to run."""
        try:
            yield
        except BaseException:
            # If the journal cannot be written, the trial's lease expires instead.
            with contextlib.suppress(SearchError):
                self.oracle.leave()
            raise

    def on_trial_end(self, trial: Any) -> None:
        """Keras Tuner's hook, on every rank of the group."""
        self._model = None
        self._on_root(lambda: self.oracle.end_trial(trial))
