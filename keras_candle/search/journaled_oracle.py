"""A Keras Tuner oracle whose fields say what the journals of all groups say."""

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
    """What is known of a search, by this process and by all others.

    Args:
        options: how trials are chosen, and when they end.
        objective: see `HyperSpaceOracle`.
        max_trials: of all groups together; None for no limit.
        seed: of all draws; None: one is drawn, the same for all groups and kept for a resume.
        **of_keras_tuner: those of `keras_tuner.Oracle`.

    Attributes:
        group: the ranks that this oracle chooses trials for.
    """

    def __init__(
        self,
        options: SearchOptions,
        objective: Any,
        max_trials: int | None,
        seed: int | None,
        **of_keras_tuner: Any,
    ) -> None:
        self.options = options
        check_count("max_trials", max_trials)
        check_count("seed", seed, least=0)
        seed = None if seed is None else int(seed)  # NumPy's cannot be written as JSON
        if (given := of_keras_tuner.get("hyperparameters")) is not None:
            # What trials find is added to ours, not to the user's.
            of_keras_tuner["hyperparameters"] = given.copy()
        super().__init__(
            objective=make_objective(objective), max_trials=max_trials, seed=seed, **of_keras_tuner
        )
        self.seed = seed  # Keras Tuner takes 0 for none
        self.group = Group()
        self._lock = threading.RLock()
        self._made: Coordinator | None = None

    @property
    def coordinator(self) -> Coordinator:
        """What chooses the trials, with the space as it is known now."""
        if self._made is None:
            objectives = len(parts_of(self.objective))
            self._made = Coordinator(
                self.group, self.options, objectives, self.max_trials, self.seed
            )
        self._made.max_trials = self.max_trials  # which a user may raise
        self._made.proposals.look_at(self.hyperparameters)
        return self._made

    def open(self) -> Project:
        """The project's folder, ready to be written.

        Raises:
            SearchError: when it cannot be written, or is another search's.
        """
        project = self.coordinator.project
        if project is None:
            objective = [[each.name, each.direction] for each in parts_of(self.objective)]
            identity = {"objective": objective, **self.options.identity()}
            folder = project_directory(self)
            project = self.coordinator.begin(folder, identity, self.hyperparameters)
            self.seed = self.coordinator.proposals.seed
            self.read()
        return project

    def read(self) -> None:
        """Take what the other groups have written since."""
        with self._lock:
            self.open()
            changed, found = self.coordinator.read()
            if found:
                fresh = keras_tuner.HyperParameters.from_config({"space": found, "values": {}})
                super().update_space(fresh)
            for trial_id in changed:
                self._mirror(self.coordinator.ledger.trials[trial_id])

    def records(self) -> list[TrialRecord]:
        """All trials as the journals tell of them, by their numbers."""
        with self._lock:
            self.read()
            return self.coordinator.standings.records()

    def get_best_trials(self, num_trials: int = 1) -> list[Any]:
        """The best trials of all groups.

        Args:
            num_trials: how many, at most.

        Returns:
            Completed ones by their score, those above `max_cost` last; with several objectives
            those of the front first, by the first objective.
        """
        with self._lock:
            self.read()
            return [self.trials[each] for each in self.coordinator.standings.ranking()[:num_trials]]

    def front(self) -> list[str]:
        """The trials that none other betters in all objectives, by the first objective."""
        with self._lock:
            self.read()
            return self.coordinator.standings.front()

    def best_so_far(self) -> float | None:
        """The best first objective of a full training, to be minimised; None before one ended."""
        with self._lock:
            self.read()
            return self.coordinator.standings.best_so_far()

    # Keeping Keras Tuner's fields and files.

    def _mirror(self, record: TrialRecord) -> None:
        """Let Keras Tuner's own fields say what the journals say of a trial."""
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
        if trial_id not in self.coordinator.starts:
            trial.hyperparameters = with_values(self.hyperparameters, record.values)
            trial.status, trial.score, trial.best_step = end["status"], end["score"], end["step"]
            trial.message = end["message"]
            trial.metrics = type(trial.metrics).from_config(end["metrics"])

    def record_hyperparameters(self, hyperparameters: Any) -> None:
        """Tell the other groups of hyperparameters that were found while building a trial.

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
        """Write oracle.json, for stock oracles to read: group 0 alone, and not after each trial.

        Args:
            now: at the end, by whoever tells of it.
        """
        if self._made is None or self._made.project is None:
            return
        if self.announces_end() if now else self.group.number == 0:
            self._made.project.write_oracle(self.get_state, now=now)

    def announces_end(self) -> bool:
        """Whether this group writes what was found: group 0, which may be dead, or the last one."""
        ended = self.coordinator.ledger.ended()
        return self.group.number in {0, *(each.last_start.group for each in ended[-1:])}

    def reload(self) -> None:
        """Go on with the search in the project's folder."""
        with self._lock:
            self.open()

    def get_state(self) -> dict[str, Any]:
        """The state that a stock oracle can go on with: of trials that have ended."""
        state: dict[str, Any] = super().get_state()
        state["ongoing_trials"] = {}
        ended = set(self.end_order)
        state["start_order"] = [each for each in self.start_order if each in ended]
        return state
