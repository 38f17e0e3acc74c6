"""A Keras Tuner oracle whose state is read from the journals of all groups."""

from __future__ import annotations

import threading
from typing import Any

import keras_tuner
from keras_tuner.engine import trial as trials

from keras_candle.keras_private.keras_tuner import project_directory
from keras_candle.search import trial_log as states
from keras_candle.search.coordinator import Coordinator
from keras_candle.search.groups import Group
from keras_candle.search.hyperparameters import with_values
from keras_candle.search.options import SearchOptions, check_count, make_objective, parts_of
from keras_candle.search.project import Project
from keras_candle.search.trial_log import TrialRecord


class JournaledOracle(keras_tuner.Oracle):  # type: ignore[misc]
    """A Keras Tuner oracle that keeps its state in step with the journals of all groups.

    Args:
        options: how trials are chosen, and when they end.
        objective: see `HyperSpaceOracle`.
        max_trials: the total of all groups; None: no limit.
        seed: of all draws; None: one is drawn, the same for all groups and kept for a resume.
        **keras_tuner_options: those of `keras_tuner.Oracle`.

    Attributes:
        group: the ranks that this oracle chooses trials for.
    """

    def __init__(
        self,
        options: SearchOptions,
        objective: Any,
        max_trials: int | None,
        seed: int | None,
        **keras_tuner_options: Any,
    ) -> None:
        self.options = options
        check_count("max_trials", max_trials)
        check_count("seed", seed, least=0)
        seed = None if seed is None else int(seed)  # NumPy's cannot be written as JSON
        if (given := keras_tuner_options.get("hyperparameters")) is not None:
            # Hyperparameters that trials find are added to the copy, not to the user's object.
            keras_tuner_options["hyperparameters"] = given.copy()
        super().__init__(
            objective=make_objective(objective),
            max_trials=max_trials,
            seed=seed,
            **keras_tuner_options,
        )
        self.seed = seed  # Keras Tuner takes 0 for none
        self.group = Group()
        self._lock = threading.RLock()
        self._coordinator: Coordinator | None = None

    @property
    def coordinator(self) -> Coordinator:
        """The coordinator of this group, with the current search space."""
        if self._coordinator is None:
            objectives = len(parts_of(self.objective))
            self._coordinator = Coordinator(
                self.group, self.options, objectives, self.max_trials, self.seed
            )
        self._coordinator.max_trials = self.max_trials  # a user may raise it
        self._coordinator.candidates.set_space(self.hyperparameters)
        return self._coordinator

    def open(self) -> Project:
        """Open the project's folder for writing.

        Raises:
            SearchError: when it cannot be written, or belongs to another search.
        """
        project = self.coordinator.project
        if project is None:
            objective = [[each.name, each.direction] for each in parts_of(self.objective)]
            identity = {"objective": objective, **self.options.identity()}
            folder = project_directory(self)
            project = self.coordinator.begin(folder, identity, self.hyperparameters)
            self.seed = self.coordinator.candidates.seed
            self.read()
        return project

    def read(self) -> None:
        """Read what all groups have written to their journals since the last call."""
        with self._lock:
            self.open()
            changed, found = self.coordinator.read()
            if found:
                fresh = keras_tuner.HyperParameters.from_config({"space": found, "values": {}})
                super().update_space(fresh)
            for trial_id in changed:
                self._mirror(self.coordinator.trial_log.trials[trial_id])

    def records(self) -> list[TrialRecord]:
        """Return the records of all trials from the journals, sorted by number."""
        with self._lock:
            self.read()
            return self.coordinator.leaderboard.records()

    def get_best_trials(self, num_trials: int = 1) -> list[Any]:
        """Return the best trials of all groups.

        Args:
            num_trials: the most trials to return.

        Returns:
            Completed ones by their score, those above `max_cost` last; with several objectives
            those of the front first, by the first objective.
        """
        with self._lock:
            self.read()
            return [
                self.trials[each] for each in self.coordinator.leaderboard.ranking()[:num_trials]
            ]

    def front(self) -> list[str]:
        """Return the trials on the Pareto front, sorted by the first objective."""
        with self._lock:
            self.read()
            return self.coordinator.leaderboard.front()

    def best_so_far(self) -> float | None:
        """Return the best first objective of a full training, minimised; None before one ended."""
        with self._lock:
            self.read()
            return self.coordinator.leaderboard.best_so_far()

    # Keeping Keras Tuner's fields and files.

    def _mirror(self, record: TrialRecord) -> None:
        """Copy a trial's record into Keras Tuner's own fields."""
        trial_id, end = record.trial_id, record.end
        if trial_id not in self.trials:
            values = with_values(self.hyperparameters, record.values)
            self.trials[trial_id] = trials.Trial(values, trial_id, states.RUNNING)
            self.start_order.append(trial_id)
        trial = self.trials[trial_id]
        if end is None:
            return
        if trial_id not in self.end_order:
            self.end_order.append(trial_id)
        if trial_id not in self.coordinator.attempts:
            trial.hyperparameters = with_values(self.hyperparameters, record.values)
            trial.status, trial.score, trial.best_step = end["status"], end["score"], end["step"]
            trial.message = end["message"]
            trial.metrics = type(trial.metrics).from_config(end["metrics"])

    def record_hyperparameters(self, hyperparameters: Any) -> None:
        """Publish hyperparameters that were found while building a trial to all groups.

        Args:
            hyperparameters: a `keras_tuner.HyperParameters`, the trial's.
        """
        before = len(self.hyperparameters.space)
        super().update_space(hyperparameters)
        new = self.hyperparameters.space[before:]
        if new:
            described = [{"class_name": type(each).__name__, "config": each.get_config()}
                         for each in new]  # fmt: skip
            self.open().log_event("found", hyperparameters=described)

    def save(self, *, now: bool = False) -> None:
        """Write oracle.json for Keras Tuner's own oracles: by group 0, at most every 10 s.

        Args:
            now: whether to write in any case, at the search's end, by the group that reports.
        """
        if self._coordinator is None or self._coordinator.project is None:
            return
        if self.writes_results() if now else self.group.number == 0:
            self._coordinator.project.write_oracle(self.get_state, now=now)

    def writes_results(self) -> bool:
        """Return whether this group writes the results: group 0, or the last trial's group.

        Both do, as group 0 may be dead by then.
        """
        ended = self.coordinator.trial_log.ended()
        return self.group.number in {0, *(each.last_attempt.group for each in ended[-1:])}

    def reload(self) -> None:
        """Resume the search in the project's folder."""
        with self._lock:
            self.open()

    def get_state(self) -> dict[str, Any]:
        """Return the state that a Keras Tuner oracle can resume: the trials that have ended."""
        state: dict[str, Any] = super().get_state()
        state["ongoing_trials"] = {}
        ended = set(self.end_order)
        state["start_order"] = [each for each in self.start_order if each in ended]
        return state
