"""A Keras Tuner oracle without a server: each group of ranks has one, and all read each other."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine import trial as trials

from keras_candle.errors import SearchError
from keras_candle.search import ledger as states
from keras_candle.search.claims import SignOfLife, owner
from keras_candle.search.halving import Halving, fidelity_of
from keras_candle.search.hyperparameters import INHERITS, with_values
from keras_candle.search.ledger import TrialRecord
from keras_candle.search.options import COST, SearchOptions, make_objective, parts_of
from keras_candle.search.pareto import non_dominated
from keras_candle.search.project import Project
from keras_candle.search.proposals import Proposal, Proposals
from keras_candle.search.suggestion import Settings

_LONGEST_MESSAGE = 16_000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.5
# Without a limit the engine has to be told how far to look ahead.
_NO_LIMIT = 256


class TooManyFailuresError(SearchError, RuntimeError):
    """As many trials failed one after the other as the user allows (Keras Tuner: RuntimeError)."""


@dataclass(frozen=True)
class Group:
    """The ranks that run one trial, among all groups of a search.

    Attributes:
        number: of this group, from 0.
        count: of groups.
        ranks: of this group.
    """

    number: int = 0
    count: int = 1
    ranks: int = 1


class HyperSpaceOracle(keras_tuner.Oracle):  # type: ignore[misc]
    """Bayesian optimisation in overlapping subspaces, for any number of processes.

    The space is cut, on the scale of each hyperparameter's prior, into overlapping subspaces
    (Young et al., HyperSpace: Distributed Bayesian Hyperparameter Optimization, 2018). Each process
    has an oracle; all of them write journals into the project's folder and read each other's, so
    every one knows all results and none waits for another.

    Args:
        objective: a name, a `keras_tuner.Objective`, or a list: then the search looks for the
            front of what cannot be improved in one without losing in another. Beside metrics:
            "device_seconds", "peak_memory_bytes", "parameters", "prediction_latency_s", and
            "cost" for the one of these that `cost` names.
        max_trials: how many trials, of all processes together; None for no limit.
        subspaces: into how many the space is cut; None: one for each group.
        overlap: of neighbouring subspaces, as a part of the range that was cut.
        seed: of all draws.
        **options: those of `SearchOptions`, and Keras Tuner's `hyperparameters`,
            `tune_new_entries`, `allow_new_entries`, `max_retries_per_trial` and
            `max_consecutive_failed_trials`.

    Raises:
        SearchError: for a value that makes no sense; from the first trial on, when the folder
            belongs to another search or its files cannot be written.

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
        seed: int = 0,
        **options: Any,
    ) -> None:
        names = set(SearchOptions.__dataclass_fields__) & set(options)
        asked = {name: options.pop(name) for name in names}
        self.options = SearchOptions(subspaces=subspaces, overlap=overlap, **asked)
        super().__init__(
            objective=make_objective(objective), max_trials=max_trials, seed=seed, **options
        )
        self.seed = seed  # Keras Tuner takes 0 for none
        self.group = Group()
        self._lock = threading.RLock()
        self._project: Project | None = None
        self._ledger = states.Ledger()
        self._starts: dict[str, int] = {}
        self._signs: dict[str, SignOfLife] = {}
        self._proposals: Proposals | None = None
        self._taken: list[dict[str, Any]] = []
        self._halving: Halving | None = None
        if self.options.max_epochs is not None:
            chosen = self.options
            self._halving = Halving(
                self.options.max_epochs, chosen.eta, chosen.min_epochs, chosen.brackets
            )

    # What a tuner calls.

    def create_trial(self, tuner_id: str) -> Any:
        """The next trial for a tuner; waits while others' trials may still need another group.

        Args:
            tuner_id: which tuner asks. One that has a trial under way gets it again.

        Returns:
            A `keras_tuner.engine.trial.Trial`, RUNNING or STOPPED.

        Raises:
            SearchError: when nothing can be written, or too many trials failed.
        """
        with self._lock:
            if tuner_id in self.ongoing_trials:
                return self.ongoing_trials[tuner_id]
            project, pause_s = self.open(), _FIRST_PAUSE_S
            while True:
                self.read()
                self._check_consecutive_failures()
                trial = self._again(project) or self._new(project) or self._unstarted(project)
                if trial is not None:
                    self._begin(trial, tuner_id)
                    return trial
                if not self._open_trials() and not project.claims.unstarted(
                    set(self._ledger.trials)
                ):
                    self.save(now=True)
                    return trials.Trial(with_values(self.hyperparameters, {}), "", "STOPPED")
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def update_trial(self, trial_id: str, metrics: dict[str, Any], step: int = 0) -> Any:
        """Report a trial's metrics.

        Args:
            trial_id: the trial.
            metrics: name to number. What `cost` names, and "cost", are added when they are missing.
            step: that they belong to.

        Returns:
            The trial.

        Raises:
            ValueError: when the objective is missing.
        """
        with self._lock:
            trial = self.trials[trial_id]
            measured = {"device_seconds": self._elapsed_s(trial_id) * self.group.ranks, **metrics}
            if self.options.cost in measured:
                measured.setdefault(COST, measured[self.options.cost])
            self._check_objective_found(measured)
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
            TooManyFailuresError: when too many failed one after the other. All is recorded before.
        """
        with self._lock:
            kept = self.trials[trial.trial_id]
            kept.hyperparameters, kept.status = trial.hyperparameters, trial.status
            kept.message = trial.message
            self._tell_found(trial.hyperparameters)
            self._score(kept)
            self._signs.pop(kept.trial_id).stop()
            self._write_end(kept)
            self._display.on_trial_end(kept)
            for tuner_id, each in list(self.ongoing_trials.items()):
                if each.trial_id == kept.trial_id:
                    del self.ongoing_trials[tuner_id]
            self.save()
            self.read()
            self._check_consecutive_failures()

    # What is known.

    def open(self) -> Project:
        """The project's folder, ready to be written."""
        if self._project is None:
            self._project = Project(Path(self._project_dir), self.options.lease_s)
            self._project.begin(self.group.number, self._identity(), self.hyperparameters)
            self.read()
        return self._project

    def read(self) -> None:
        """Take what the other groups have written since."""
        if self._project is None:
            self.open()
            return
        changed = self._ledger.take(self._project.new_lines())
        found = self._ledger.hyperparameters
        if found:
            fresh = keras_tuner.HyperParameters.from_config({"space": found, "values": {}})
            self._ledger.hyperparameters = []
            super().update_space(fresh)
        for trial_id in changed:
            self._mirror(self._ledger.trials[trial_id])

    def _mirror(self, record: TrialRecord) -> None:
        """Let Keras Tuner's own fields say what the journals say of a trial."""
        trial_id, end = record.trial_id, record.end
        if trial_id not in self.trials:
            values = with_values(self.hyperparameters, record.values)
            self.trials[trial_id] = trials.Trial(values, trial_id, states.RUNNING)
            self.start_order.append(trial_id)
        trial = self.trials[trial_id]
        if end is None or trial_id in self._starts:
            return
        trial.status, trial.score, trial.best_step = end["status"], end["score"], end["step"]
        trial.message = end["message"]
        trial.metrics = type(trial.metrics).from_config(end["metrics"])
        if trial_id not in self.end_order:
            self.end_order.append(trial_id)

    def records(self) -> list[TrialRecord]:
        """All trials as the journals tell of them, by their numbers."""
        with self._lock:
            self.read()
            return sorted(self._ledger.trials.values(), key=lambda each: each.trial_id)

    def objectives_of(self, record: TrialRecord) -> list[float]:
        """A trial's objectives, each to be minimised; NaN for one that failed."""
        end = record.end or {}
        missing = [float("nan")] * len(parts_of(self.objective))
        return end.get("objectives") or missing

    def proposals(self) -> Proposals:
        """What proposes the next trial, with the space as it is known now."""
        if self._proposals is None:
            settings = Settings(
                workers=self.group.count,
                budget=self.max_trials or _NO_LIMIT,
                overlap=self.options.overlap,
                surrogate=self.options.surrogate,
                cost_exponent=float(self.options.per_cost),
                cost_limit=self.options.max_cost,
            )
            chosen = self.options
            self._proposals = Proposals(settings, chosen.subspaces, chosen.search, self.seed)
        self._proposals.look_at(self.hyperparameters)
        return self._proposals

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Keras Tuner's hook: the values of the next trial."""
        proposal = self._promotion(closing=False)
        halving = self._halving
        if proposal is None and not (halving and halving.is_closing(self._left())):
            proposal = self.proposals().propose(
                self._ledger.trials.values(),
                self.objectives_of,
                self.group.number,
                (int(trial_id), self.group.number),
                self._taken,
            )
            if proposal is not None:
                proposal.values.update(self._further_values(proposal.values))
        proposal = proposal or self._promotion(closing=True)
        if proposal is None:
            return {"status": "STOPPED"}
        return {"status": states.RUNNING, "values": proposal.values, "proposal": proposal}

    def _promotion(self, *, closing: bool) -> Proposal | None:
        """A trial that is trained further."""
        if self._halving is None:
            return None
        found = self._halving.promotion(
            self._ledger.trials.values(),
            lambda each: self.objectives_of(each)[0],
            self._taken,
            closing=closing,
        )
        return None if found is None else Proposal(*found)

    def _left(self) -> int | None:
        return None if self.max_trials is None else self.max_trials - len(self._ledger.trials)

    def _further_values(self, values: dict[str, Any]) -> dict[str, Any]:
        """What a new trial is told beside its hyperparameters."""
        records = self._ledger.trials.values()
        further = self._halving.first_values(records) if self._halving else {}
        if self.options.inherit_weights:
            ended = [each for each in records if each.status == states.COMPLETED]
            parent = self.proposals().nearest(values, ended)
            further[INHERITS] = parent and parent.trial_id
        return further

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
            known = self._ledger.trials
            ended = [self.trials[each] for each in known if known[each].status == states.COMPLETED]
            front = set(self.front()) if len(parts_of(self.objective)) > 1 else set()

            def place(trial: Any) -> tuple[bool, bool, float, str]:
                record = known[trial.trial_id]
                cost, limit = (record.end or {}).get("cost"), self.options.max_cost
                dear = limit is not None and cost is not None and cost > limit
                value = self.objectives_of(record)[0]
                return (dear, trial.trial_id not in front, value, trial.trial_id)

            return sorted(ended, key=place)[:num_trials]

    def best_so_far(self) -> float | None:
        """The best first objective of a full training, to be minimised; None before one ended."""
        with self._lock:
            self.read()
            full = [
                self.objectives_of(each)[0]
                for each in self._ledger.trials.values()
                if each.status == states.COMPLETED and (each.end or {}).get("fidelity") == 1.0
            ]
        return min(full, default=None)

    def front(self) -> list[str]:
        """The trials that none other betters in all objectives, by the first objective."""
        ended = [each for each in self.records() if each.status == states.COMPLETED]
        if not ended:
            return []
        values = np.array([self.objectives_of(each) for each in ended], float)
        chosen = [i for i, good in enumerate(non_dominated(values)) if good]
        return [ended[i].trial_id for i in sorted(chosen, key=lambda i: (values[i, 0], i))]

    # Starting and ending.

    def _open_trials(self) -> list[TrialRecord]:
        return [each for each in self._ledger.trials.values() if each.end is None]

    def _again(self, project: Project) -> Any:
        """A trial that failed and may be tried again, or whose group is gone."""
        for record in self._open_trials():
            start = record.last_start
            due = start.end is not None or project.is_lost(record)
            if due and project.claims.start(record.trial_id, start.number + 1):
                return self._started(project, record.trial_id, start.number + 1, record.values,
                                     record.subspace)  # fmt: skip
        return None

    def _unstarted(self, project: Project) -> Any:
        """A trial whose group died between its claim and its first line."""
        for trial_id in project.claims.unstarted(set(self._ledger.trials), lost=True):
            if project.claims.start(trial_id, 1):
                values = project.claimed_values(trial_id) or self.populate_space(trial_id).get(
                    "values"
                )
                if values is not None:
                    return self._started(project, trial_id, 1, values, -1)
        return None

    def _new(self, project: Project) -> Any:
        trial_id = project.free_number(self.max_trials, set(self._ledger.trials))
        if trial_id is None:
            return None
        while True:
            response = self.populate_space(trial_id)
            proposal = response.get("proposal")
            if proposal is None:
                return None
            trial_id = project.claim_number(trial_id, self.max_trials)
            if trial_id is None:
                return None
            if not proposal.claimed or project.claims.point(
                proposal.key, trial_id, proposal.values
            ):
                return self._started(project, trial_id, 1, proposal.values, proposal.subspace)
            # Another group has just taken the same.
            project.claims.release(trial_id)
            self._taken = [dict(each["values"]) for each in project.claims.points()]
            self.read()

    def _started(
        self, project: Project, trial_id: str, number: int, values: dict[str, Any], subspace: int
    ) -> Any:
        project.note(
            "started",
            trial=trial_id,
            start=number,
            values=values,
            subspace=subspace,
            group=self.group.number,
            owner=owner(),
        )
        self._starts[trial_id] = number
        self.read()
        trial = self.trials[trial_id]
        trial.hyperparameters = with_values(self.hyperparameters, values)
        trial.status = states.RUNNING
        return trial

    def _begin(self, trial: Any, tuner_id: str) -> None:
        self.tuner_ids.add(tuner_id)
        self.ongoing_trials[tuner_id] = trial
        folder = Path(self._get_trial_dir(trial.trial_id))
        self._signs[trial.trial_id] = SignOfLife(folder, self.options.lease_s / 4)
        self._display.on_trial_begin(trial)

    def _elapsed_s(self, trial_id: str) -> float:
        start = self._ledger.trials[trial_id].starts[self._starts[trial_id]]
        return time.time() - start.time_s

    def _tell_found(self, hyperparameters: Any) -> None:
        before = len(self.hyperparameters.space)
        super().update_space(hyperparameters)
        new = self.hyperparameters.space[before:]
        if new:
            described = [{"class_name": type(each).__name__, "config": each.get_config()}
                         for each in new]  # fmt: skip
            self.open().note("found", hyperparameters=described)

    def _score(self, trial: Any) -> None:
        if trial.status == states.COMPLETED:
            self.score_trial(trial)
            if trial.score is None or not np.isfinite(trial.score):
                trial.status = states.INVALID
                trial.message = f"The objective {self.objective.name} is {trial.score}."
        tries = self._ledger.trials[trial.trial_id].tries
        if trial.status == states.INVALID and tries >= self.max_retries_per_trial:
            trial.status = states.FAILED

    def _write_end(self, trial: Any) -> None:
        project = self.open()
        objectives = None
        if trial.status == states.COMPLETED:
            objectives = [_minimised(trial, each) for each in parts_of(self.objective)]
        measured = self.options.cost if trial.metrics.exists(self.options.cost) else None
        project.write_trial(trial)
        project.note(
            "ended",
            trial=trial.trial_id,
            start=self._starts[trial.trial_id],
            status=trial.status,
            score=trial.score,
            step=trial.best_step,
            objectives=objectives,
            cost=trial.metrics.get_best_value(measured) if measured else None,
            fidelity=fidelity_of(trial.hyperparameters.values, self.options.max_epochs),
            metrics=trial.metrics.get_config(),
            message=trial.message and trial.message[-_LONGEST_MESSAGE:],
        )

    def _check_consecutive_failures(self) -> None:
        row: list[TrialRecord] = []
        for record in self._ledger.ended():
            row = [*row, record] if record.status == states.FAILED else []
            if len(row) >= self.max_consecutive_failed_trials:
                self.save(now=True)
                raise TooManyFailuresError(_failures(row))

    # What Keras Tuner writes.

    def save(self, *, now: bool = False) -> None:
        """Write oracle.json, for stock oracles to read: group 0 alone, and not after each trial.

        Args:
            now: whether it is written in any case.
        """
        if self.group.number == 0 and self._project is not None:
            self._project.write_oracle(self.get_state, now=now)

    def reload(self) -> None:
        """Go on with the search in the project's folder."""
        with self._lock:
            self.open()

    def get_state(self) -> dict[str, Any]:
        """The state that a stock oracle can go on with: of trials that have ended."""
        state: dict[str, Any] = super().get_state()
        state["ongoing_trials"] = {}
        state["start_order"] = [each for each in self.start_order if each in set(self.end_order)]
        return state

    def _identity(self) -> dict[str, Any]:
        parts = parts_of(self.objective)
        return {
            "objective": [[each.name, each.direction] for each in parts],
            "cost": self.options.cost,
        }


def _minimised(trial: Any, objective: Any) -> float:
    value = float(trial.metrics.get_best_value(objective.name))
    return -value if objective.direction == "max" else value


def _failures(row: list[TrialRecord]) -> str:
    told = []
    for record in row:
        message = str((record.end or {}).get("message") or "without a message")
        told.append(f"  trial {record.trial_id} with {record.values}: {_last_line(message)}")
    listed = "\n".join(told)
    last = str((row[-1].end or {}).get("message") or "")
    return (
        f"{len(row)} trials failed one after the other, so the search has stopped "
        f"(max_consecutive_failed_trials):\n{listed}\nThe last one's traceback:\n{last}"
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else text
