"""A Keras Tuner tuner whose trials run on groups of ranks, each group with its own oracle."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_candle import backend
from keras_candle import engine as engines
from keras_candle.errors import SearchError
from keras_candle.keras_private.keras_tuner import populate_space
from keras_candle.launcher_messages import independent
from keras_candle.search.failures import check_some_succeeded
from keras_candle.search.group_tuner import GroupTuner
from keras_candle.search.groups import join
from keras_candle.search.insight import table
from keras_candle.search.measurement import freeze_existing_objects, release_memory
from keras_candle.search.objectives import check_held_out
from keras_candle.search.options import SearchOptions
from keras_candle.search.oracle import HyperSpaceOracle
from keras_candle.search.overwrite import empty_project
from keras_candle.search.reporting import insight_of
from keras_candle.search.stopping import check_stoppable
from keras_candle.search.trial_training import TrialTraining

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
        if oracle.options.stop_hopeless:
            check_stoppable(oracle.objective)
        oracle.group, self.engine = join(ranks_per_trial)
        if keras.backend.backend() in backend.BACKENDS:
            backend.current().pin(self.engine)
        folder = Path(directory or ".", project_name or "untitled_project")
        self._reports = oracle.group.number == 0 and self.engine.is_root
        if overwrite:
            empty_project(folder, first=self._reports, alone=oracle.group.count == 1)
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
