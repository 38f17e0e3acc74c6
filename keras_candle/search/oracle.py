"""The HyperSpace oracle: starts and ends trials for any number of processes, without a server."""

from __future__ import annotations

import threading
import time
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine import trial as trials

from keras_candle.keras_private.keras_tuner import (
    check_objective,
    display_of,
    project_directory,
    trial_directory,
)
from keras_candle.search import trial_log as states
from keras_candle.search.coordinator import Coordinator
from keras_candle.search.groups import Group
from keras_candle.search.halving import fidelity_of
from keras_candle.search.hyperparameters import with_defaults, with_values
from keras_candle.search.leaderboard import TooManyFailuresError, describe_failures
from keras_candle.search.leases import LeaseHeartbeat
from keras_candle.search.objectives import COST, make_objective, parts_of
from keras_candle.search.options import SearchOptions, check_count
from keras_candle.search.project import Project
from keras_candle.search.trial_log import TrialRecord

_LONGEST_MESSAGE = 16_000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.5


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
        """Write oracle.json for Keras Tuner's own oracles: by the first group, at most every 10 s.

        Args:
            now: whether to write in any case, at the search's end, by the group that reports.
        """
        if self._coordinator is None or self._coordinator.project is None:
            return
        if self.writes_results() if now else self.group.is_first:
            self._coordinator.project.write_oracle(self.get_state, now=now)

    def writes_results(self) -> bool:
        """Return whether this group writes the results: a first one, or the last trial's group.

        Both do, as the first one may be dead by then, and as elements of an array end one by one.
        """
        last = self.coordinator.trial_log.ended()[-1:]
        return self.group.is_first or any(
            each.last_attempt.group == self.group.number for each in last
        )

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


class HyperSpaceOracle(JournaledOracle):
    """Bayesian optimisation in overlapping subspaces, for any number of processes.

    The space is cut, on the scale of each hyperparameter's prior, into overlapping subspaces
    (Young et al., HyperSpace: Distributed Bayesian Hyperparameter Optimization, 2018). Each process
    has an oracle. All of them write journals into the project's folder and read each other's, so
    each knows all results and none waits for another.

    Args:
        objective: a name, a `keras_tuner.Objective`, or a list: then the search looks for the
            Pareto front. In addition to metrics: "device_seconds", "peak_memory_bytes",
            "parameters", "prediction_latency_s", and "cost" for the one of these that `cost` names.
        max_trials: the number of trials of all processes together; None: no limit.
        subspaces: the number of subspaces; None: one for each group.
        overlap: of neighbouring subspaces, as a part of the range that is cut.
        seed: of all draws; None: one is drawn, the same for all processes and kept for a resume.
        **options: those of `SearchOptions`, and Keras Tuner's `hyperparameters`,
            `tune_new_entries`, `allow_new_entries`, `max_retries_per_trial` and
            `max_consecutive_failed_trials`.

    Raises:
        SearchError: for a value out of range; from the first trial on, when the folder belongs to
            another search or its files cannot be written.

    Example:
        >>> import keras_tuner
        >>> oracle = HyperSpaceOracle("val_loss", max_trials=64, subspaces=4)
        >>> isinstance(oracle, keras_tuner.Oracle)
        True
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 10,
        subspaces: int | None = None,
        overlap: float = 0.25,
        seed: int | None = 0,
        **options: Any,
    ) -> None:
        names = set(SearchOptions.__dataclass_fields__) & set(options)
        asked = {name: options.pop(name) for name in names}
        chosen = SearchOptions(subspaces=subspaces, overlap=overlap, **asked)
        super().__init__(chosen, objective, max_trials, seed, **options)
        self._heartbeat = LeaseHeartbeat(self.options.lease_s / 4)

    # Called by tuners.

    def create_trial(self, tuner_id: str) -> Any:
        """Return the next trial for a tuner; wait while running trials may still have to be rerun.

        Args:
            tuner_id: the tuner that asks. If it has a running trial, it gets that one again.

        Returns:
            A `keras_tuner.engine.trial.Trial`, RUNNING or STOPPED.

        Raises:
            SearchError: when the folder cannot be written, or too many trials failed.
        """
        with self._lock:
            if tuner_id in self.ongoing_trials:
                return self.ongoing_trials[tuner_id]
            self.open()
            pause_s = _FIRST_PAUSE_S
            while True:
                self.read()
                self._check_consecutive_failures()
                found = self.coordinator.next(tuner_id)
                if found is not None:
                    return self._begin(*found, tuner_id)
                if self.coordinator.is_over():
                    self.save(now=True)
                    return trials.Trial(with_values(self.hyperparameters, {}), "", "STOPPED")
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def update_trial(self, trial_id: str, metrics: dict[str, Any], step: int = 0) -> Any:
        """Report a trial's metrics.

        Args:
            trial_id: the trial.
            metrics: name to number. The metric that `cost` names, and "cost", are added when they
                are missing.
            step: of the metrics.

        Returns:
            The trial.

        Raises:
            ValueError: when the objective is missing.
        """
        with self._lock:
            trial = self.trials[trial_id]
            measured = {**self._elapsed(trial_id), **metrics}
            if self.options.cost in measured:
                measured.setdefault(COST, measured[self.options.cost])
            check_objective(self, measured)
            parts = parts_of(self.objective)
            if len(parts) > 1:
                measured[self.objective.name] = self.objective.get_value(measured)
            directions = {each.name: each.direction for each in [*parts, self.objective]}
            for name, value in measured.items():
                if not trial.metrics.exists(name):
                    trial.metrics.register(name, directions.get(name))
                trial.metrics.update(name, value, step=step)
            return trial

    def end_trial(self, trial: Any) -> None:
        """Record how a trial ended.

        Args:
            trial: COMPLETED, INVALID (it may be tried again) or FAILED, with its traceback in
                `message`.

        Raises:
            TooManyFailuresError: when too many trials failed in a row. The end is recorded before.
        """
        with self._lock:
            kept = self.trials[trial.trial_id]
            kept.hyperparameters, kept.status = trial.hyperparameters, trial.status
            kept.message = trial.message
            self.record_hyperparameters(trial.hyperparameters)
            self._score(kept)
            self._heartbeat.end(trial_directory(self, kept.trial_id))
            self._write_end(kept)
            display_of(self).on_trial_end(kept)
            for tuner_id, each in list(self.ongoing_trials.items()):
                if each.trial_id == kept.trial_id:
                    del self.ongoing_trials[tuner_id]
            self.save()
            self.read()
            self._check_consecutive_failures()

    def leave(self) -> None:
        """Give up this process's running trials: another group runs them, and no try is counted."""
        with self._lock:
            for trial in self.ongoing_trials.values():
                self._heartbeat.end(trial_directory(self, trial.trial_id))
                number = self.coordinator.attempts[trial.trial_id]
                self.open().log_event("left", trial=trial.trial_id, start=number)
            self.ongoing_trials.clear()

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Keras Tuner's hook: return the values that a new trial of this number would have."""
        self.read()
        found = self.coordinator.propose(trial_id)
        return {"status": "STOPPED"} if found is None else {
            "status": states.RUNNING, "values": found.values,
        }  # fmt: skip

    # Starting and ending.

    def _begin(self, trial_id: str, values: dict[str, Any], tuner_id: str) -> Any:
        self.read()
        trial = self.trials[trial_id]
        whole = with_defaults(self.hyperparameters, values)
        trial.hyperparameters = with_values(self.hyperparameters, whole)
        trial.status = states.RUNNING
        trial.metrics = type(trial.metrics)()  # drop those of an earlier attempt
        self.tuner_ids.add(tuner_id)
        self.ongoing_trials[tuner_id] = trial
        self._heartbeat.begin(trial_directory(self, trial_id))
        display_of(self).on_trial_begin(trial)
        return trial

    def _elapsed(self, trial_id: str) -> dict[str, float]:
        number = self.coordinator.attempts.get(trial_id)
        if number is None:  # on a rank of the group that did not claim the trial
            return {}
        began_s = self.coordinator.trial_log.trials[trial_id].attempts[number].time_s
        return {"device_seconds": (time.time() - began_s) * self.group.ranks}

    def _score(self, trial: Any) -> None:
        if trial.status == states.COMPLETED:
            self.score_trial(trial)
            if trial.score is None or not np.isfinite(trial.score):
                trial.status = states.INVALID
                trial.message = (
                    f"The objective {self.objective.name} is {trial.score}, expected a finite "
                    "number."
                )
        tries = self.coordinator.trial_log.trials[trial.trial_id].tries
        if trial.status == states.INVALID and tries >= self.max_retries_per_trial:
            trial.status = states.FAILED

    def _write_end(self, trial: Any) -> None:
        project = self.open()
        objectives = None
        if trial.status == states.COMPLETED:
            objectives = [_minimised(trial, each) for each in parts_of(self.objective)]
        measured = self.options.cost if trial.metrics.exists(self.options.cost) else None
        project.write_trial(trial)
        project.log_event(
            "ended",
            trial=trial.trial_id,
            start=self.coordinator.attempts[trial.trial_id],
            status=trial.status,
            values=trial.hyperparameters.values,
            score=trial.score,
            step=trial.best_step,
            objectives=objectives,
            cost=trial.metrics.get_best_value(measured) if measured else None,
            fidelity=fidelity_of(trial.hyperparameters.values, self.options.max_epochs),
            metrics=trial.metrics.get_config(),
            message=trial.message and trial.message[-_LONGEST_MESSAGE:],
        )

    def _check_consecutive_failures(self) -> None:
        row = self.coordinator.leaderboard.consecutive_failures(self.max_consecutive_failed_trials)
        if row:
            self.save(now=True)
            raise TooManyFailuresError(describe_failures(row))


def _minimised(trial: Any, objective: Any) -> float:
    value = float(trial.metrics.get_best_value(objective.name))
    return -value if objective.direction == "max" else value
