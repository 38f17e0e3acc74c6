"""A Keras Tuner tuner whose trials run on groups of ranks, each group with its own oracle."""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner import errors
from keras_tuner.engine import trial as trials

from keras_candle import backend
from keras_candle import engine as engines
from keras_candle.engine.base import Engine
from keras_candle.errors import SearchError
from keras_candle.keras_private.keras_tuner import (
    build_config_path,
    checkpoint_path,
    populate_space,
)
from keras_candle.launcher_messages import independent
from keras_candle.search.groups import agree_on_end, join
from keras_candle.search.halving import EPOCHS, INITIAL_EPOCH, PARENT
from keras_candle.search.insight import insight_of, table
from keras_candle.search.leaderboard import check_some_succeeded
from keras_candle.search.measurement import Measurement, freeze_existing_objects, release_memory
from keras_candle.search.objectives import check_held_out, metrics_of
from keras_candle.search.options import SearchOptions
from keras_candle.search.oracle import HyperSpaceOracle
from keras_candle.search.project import empty_project
from keras_candle.training.keras_methods import trainer_of


class TrialTraining(keras_tuner.Tuner):  # type: ignore[misc]
    """Keras Tuner's training of a trial on one group of ranks, whose engine is `engine`.

    A promoted trial resumes the last weights and optimizer of its parent.
    """

    engine: Engine
    _model: Any = None

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """Build, train and measure; see `keras_tuner.Tuner.run_trial`."""
        values = trial.hyperparameters.values
        if EPOCHS in values:
            kwargs.update(epochs=values[EPOCHS], initial_epoch=values[INITIAL_EPOCH])
        return super().run_trial(trial, *args, **kwargs)

    def _try_build(self, hp: Any) -> Any:
        self._model = None
        release_memory()
        model = self._build_hypermodel(hp)
        if not isinstance(model, keras.Model):
            raise errors.FatalTypeError(
                f"The hypermodel returned {model!r}, expected a keras.Model."
            )
        size = model.count_params() if model.built else 0
        if self.max_model_size and size > self.max_model_size:
            raise errors.FailedTrialError(
                f"The model has {size} parameters, expected at most max_model_size="
                f"{self.max_model_size}."
            )
        self._model = model
        return model

    def load_model(self, trial: Any) -> Any:
        """Return the trained model of a trial, at its best epoch."""
        model = self._try_build(trial.hyperparameters)
        self._load(model, trial.trial_id, checkpoint_path(self, trial.trial_id))
        return model

    def _build_and_fit_model(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        # Keras Tuner's own refuses a dict of several objectives.
        hp = trial.hyperparameters
        model = self._try_build(hp)
        if self.engine.size > 1:
            _check_scaled(model, self.engine.size)
        results = self.hypermodel.fit(hp, model, *args, **kwargs)
        if self.engine.is_root:
            described = build_config_path(self, trial.trial_id)
            described.write_text(json.dumps(model.get_build_config()))
        if EPOCHS in hp.values:
            model.save_weights(self._last_weights(trial.trial_id))
        return results

    def _build_hypermodel(self, hp: Any) -> Any:
        model = super()._build_hypermodel(hp)
        if (parent := hp.values.get(PARENT)) is not None:
            self._load(model, parent, self._last_weights(parent))
        return model

    def _load(self, model: Any, like: str, weights: str) -> None:
        if not model.built:
            described = build_config_path(self, like).read_text()
            model.build_from_config(json.loads(described))
        # A model with a custom training loop need not be compiled.
        if (optimizer := getattr(model, "optimizer", None)) is not None:
            optimizer.build(model.trainable_variables)
        model.load_weights(weights)

    def _last_weights(self, trial_id: str) -> str:
        return str(Path(self.get_trial_dir(trial_id)) / "last.weights.h5")

    def _configure_tensorboard_dir(self, callbacks: Any, trial: Any, execution: int = 0) -> None:
        # Keras Tuner's own needs the package tensorboard even without that callback.
        if any(type(each).__name__ == "TensorBoard" for each in callbacks):
            super()._configure_tensorboard_dir(callbacks, trial, execution)


def _check_scaled(model: Any, ranks: int) -> None:
    if trainer_of(model) is None:
        raise SearchError(
            f"ranks_per_trial={ranks}, but the model {model.name!r} is not scaled: each rank would "
            "train it by itself. Build it with @candle.scalable, or leave ranks_per_trial out."
        )


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


_ORACLE_OPTIONS = {
    *SearchOptions.__dataclass_fields__,
    "seed",
    "hyperparameters",
    "tune_new_entries",
    "allow_new_entries",
    "max_retries_per_trial",
    "max_consecutive_failed_trials",
}


class CandleTuner(GroupTuner):
    """Searches hyperparameters on any number of ranks: `candle run -np 16 search.py`.

    The ranks form groups of `ranks_per_trial`. Each group runs its own trials; a model built with
    `@candle.scalable` trains data-parallel on the group's ranks. All groups share their results
    through the project's folder, which all of them must see. When a group dies, another group runs
    its trial again. The same script started again resumes the search.

    Args:
        hypermodel: a function of `hp` that returns a compiled model, or a
            `keras_tuner.HyperModel`.
        objective: see `HyperSpaceOracle`.
        max_trials: the total of all groups.
        ranks_per_trial: the ranks of a group. More than one needs a model that is built with
            `@candle.scalable`.
        directory: the parent of the project's folder; on a shared disk for several nodes.
        project_name: the name of the project's folder.
        overwrite: whether to remove an existing search first.
        **options: those of `HyperSpaceOracle`, and of `keras_tuner.Tuner`.

    Raises:
        SearchError: for a value out of range, ranks that `ranks_per_trial` does not divide, a
            space without a free hyperparameter, or a folder of another search.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     class Bowl(CandleTuner):
        ...         def run_trial(self, trial, **fit_kwargs):
        ...             return (trial.hyperparameters.Float("x", -1.0, 1.0) - 0.3) ** 2
        ...     tuner = Bowl(max_trials=12, directory=folder)
        ...     tuner.search(verbose=0)
        ...     abs(tuner.get_best_hyperparameters()[0]["x"] - 0.3) < 0.1
        True
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int | None = 10,
        ranks_per_trial: int = 1,
        directory: str | os.PathLike[str] | None = None,
        project_name: str | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> None:
        oracle_options = {name: options.pop(name) for name in _ORACLE_OPTIONS & set(options)}
        oracle = HyperSpaceOracle(objective, max_trials, **oracle_options)
        oracle.group, self.engine = join(ranks_per_trial)
        if keras.backend.backend() in backend.BACKENDS:
            backend.current().pin(self.engine)
        folder = Path(directory or ".", project_name or "untitled_project")
        self._reports = oracle.group.is_first and self.engine.is_root
        if overwrite:
            empty_project(folder, oracle.group, first=self._reports)
        # It builds a model, which must not start the engine of all ranks: with MPI begun, the death
        # of one rank would end all.
        with engines.use(self.engine):
            super().__init__(
                oracle,
                hypermodel,
                directory=None if directory is None else str(directory),
                project_name=project_name,
                **options,
            )
        self.tuner_id = f"group{oracle.group.number}"
        oracle.verbose = int(self._reports)
        if self._reports:
            self._save_tuner()
        oracle.open()
        if hypermodel is not None and not oracle.coordinator.candidates.cube.space.dimensions:
            raise SearchError(
                "The model has no free hyperparameter: it asks hp for fixed values only. Add one, "
                "such as hp.Float('learning_rate', 1e-4, 1e-1, sampling='log')."
            )

    # Keras Tuner's files.

    def reload(self) -> None:
        """Keras Tuner's hook: resume the search with the hypermodel's current space."""
        with engines.use(self.engine):
            populate_space(self)

    def save(self) -> None:
        """Keras Tuner's hook; does nothing, as the oracle writes the files."""

    def _save_tuner(self) -> None:
        Path(self._get_tuner_fname()).write_text("{}")

    def _get_tuner_fname(self) -> str:
        # Keras Tuner's own tuners look for this name.
        return str(Path(self.project_dir) / "tuner0.json")

    # The search.

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Run trials until there are `max_trials`, or no untried point is left.

        Args:
            *fit_args: for `fit`, such as the data.
            **fit_kwargs: for `fit`, such as `validation_data` and `epochs`.

        Raises:
            SearchError: when `fit` cannot return the objective, a group of several ranks gets a
                model that isn't scaled, or too many trials of this call failed in a row; all
                results are kept.
        """
        ours = type(self).run_trial is TrialTraining.run_trial
        if ours and getattr(type(self.hypermodel), "fit", None) is keras_tuner.HyperModel.fit:
            check_held_out(self.oracle.objective, fit_kwargs)
        self.oracle.options.check_epochs(fit_kwargs)
        self.oracle.coordinator.leaderboard.begin()
        if "verbose" in fit_kwargs and self._reports:
            self.oracle.verbose = fit_kwargs["verbose"]
        with independent() if self.engine.size == 1 else contextlib.nullcontext():
            self._on_all_ranks(self.on_search_begin)
            with freeze_existing_objects() as forget, self._leave_on_error():
                while (trial := self._next_trial()) is not None:
                    self._on_all_ranks(self.on_trial_begin, trial)
                    self._try_run_and_update_trial(trial, *fit_args, **fit_kwargs)
                    self.on_trial_end(trial)
                    forget()
            self.on_search_end()
        check_some_succeeded(self.oracle.records())

    def on_search_end(self) -> None:
        """Keras Tuner's hook: write and print the results."""
        self._model = None
        release_memory()
        if self.engine.is_root and self.oracle.writes_results():
            found = self.insight()
            self.oracle.open().write("insight.json", found)
            if self.oracle.verbose:
                print(table(found))  # noqa: T201 - Keras Tuner prints its results, too

    # Results.

    def insight(self) -> dict[str, Any]:
        """Return the results as JSON values: see `keras_candle.search.reporting.insight_of`."""
        return insight_of(self.oracle)

    def pareto_front(self) -> list[Any]:
        """Return the trials on the Pareto front, sorted by the first objective.

        Returns:
            `keras_tuner.engine.trial.Trial` objects; with one objective the best trial alone. None
            of them is above `max_cost`.
        """
        return [self.oracle.trials[trial_id] for trial_id in self.oracle.front()]
