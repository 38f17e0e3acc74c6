"""Coordinate the trials of all groups, without a server, a port or a lock.

Each group of ranks has a coordinator. Its decisions are functions of the journals of all groups; a
claim that only one group can make settles which one runs a trial.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from keras_candle.search.ask import AskSettings
from keras_candle.search.candidates import Candidate, CandidateSource
from keras_candle.search.groups import Group
from keras_candle.search.halving import Halving, HalvingInputs
from keras_candle.search.leaderboard import Leaderboard
from keras_candle.search.leases import owner
from keras_candle.search.options import SearchOptions
from keras_candle.search.project import Project
from keras_candle.search.trial_log import TrialLog, TrialRecord

# The budget that the surrogate assumes where `max_trials` is None.
_NO_LIMIT = 256
# How often a group checks whether other groups have died and their trials are free.
_CHECK_EVERY_S = 0.2


class Coordinator:
    """Chooses and claims trials for one group.

    Args:
        group: the group.
        options: how trials are chosen.
        objectives: the number of objectives.
        max_trials: the total of all groups; None: no limit.
        seed: of all draws; None: the one that is recorded in the folder, or a new one.

    Attributes:
        project: the folder; None before `begin`.
        trial_log: all trials, read from the journals.
        leaderboard: the results of the trials.
        candidates: proposes the next trial's values.
        attempts: the attempt number of each trial that this process has run.
    """

    def __init__(
        self,
        group: Group,
        options: SearchOptions,
        objectives: int,
        max_trials: int | None,
        seed: int | None,
    ) -> None:
        self.group, self.max_trials, self._options = group, max_trials, options
        self.trial_log, self.attempts = TrialLog(), dict[str, int]()
        self.leaderboard = Leaderboard(self.trial_log, objectives, options.max_cost)
        self.project: Project | None = None
        settings = AskSettings(
            workers=group.count,
            budget=max_trials or _NO_LIMIT,
            overlap=options.overlap,
            cost_exponent=float(options.per_cost),
            cost_limit=options.max_cost,
        )
        self.candidates = CandidateSource(settings, options.subspaces, options.search, seed)
        self._halving: Halving | None = None
        if options.max_epochs is not None:
            self._halving = Halving(options.max_epochs, options.eta, options.min_epochs)
        self._taken: list[dict[str, Any]] = []
        self._checked_s = -math.inf
        self._tuner_id = ""

    def begin(self, folder: Path, identity: dict[str, Any], hyperparameters: Any) -> Project:
        """Open the search's folder; see `Project.begin`."""
        self.project = Project(folder, self._options.lease_s)
        self.candidates.seed = self.project.begin(
            self.group.number, identity, hyperparameters, self.candidates.seed
        )
        return self.project

    def read(self) -> tuple[set[str], list[dict[str, Any]]]:
        """Read what all groups have written to their journals since the last call.

        Returns:
            The trials that have changed, and the hyperparameters that were found while building.
        """
        changed = self.trial_log.take(self._open_project().new_lines())
        found, self.trial_log.hyperparameters = self.trial_log.hyperparameters, []
        return changed, found

    def is_over(self) -> bool:
        """Return whether no trial is running or may be run again."""
        project = self._open_project()
        return not self._open_trials() and not project.leases.unstarted(set(self.trial_log.trials))

    def _open_trials(self) -> list[TrialRecord]:
        return [each for each in self.trial_log.trials.values() if each.end is None]

    def next(self, tuner_id: str) -> tuple[str, dict[str, Any]] | None:
        """Claim the next trial for this group.

        Args:
            tuner_id: the tuner that asks.

        Returns:
            Its name and values; None when there is none now. While other groups run trials, one
            of those may still become free.
        """
        self._tuner_id = tuner_id
        return self._retry() or self._new_trial() or self._unstarted_trial()

    def propose(self, trial_id: str) -> Candidate | None:
        """Propose the values of a new trial; None when no trial should start now."""
        found = self._promotion(closing=False)
        if found is None and self._halving and self._halving.is_closing(self._remaining_trials()):
            found = self._promotion(closing=True)
            if found is None and self._halving.is_waiting(*self._halving_inputs()):
                return None
        if found is None:
            found = self.candidates.propose(
                self.trial_log.trials.values(),
                self.leaderboard.objectives_of,
                self.group.number,
                (int(trial_id), self.group.number),
                self._taken,
            )
            if found is not None:
                found.values.update(self._epochs())
        return found or self._promotion(closing=True)

    def _retry(self) -> tuple[str, dict[str, Any]] | None:
        """A trial that failed and may be tried again, or whose group is gone."""
        project = self._open_project()
        # Checking whether other groups are alive may cost more than a short trial.
        may_check = time.monotonic() - self._checked_s > _CHECK_EVERY_S
        if may_check:
            self._checked_s = time.monotonic()
        for record in self._open_trials():
            failed = record.last_attempt.end is not None
            if not ((failed or may_check) and project.is_free(record, self._tuner_id)):
                continue
            number = project.leases.last_attempt(record.trial_id) + 1
            if project.leases.claim_attempt(record.trial_id, number):
                again = Candidate(record.values, record.subspace, b"")
                return self._start(record.trial_id, number, again)
        return None

    def _new_trial(self) -> tuple[str, dict[str, Any]] | None:
        project = self._open_project()
        trial_id = project.free_number(self.max_trials, set(self.trial_log.trials))
        while trial_id is not None:
            proposal = self.propose(trial_id)
            if proposal is None:
                return None
            trial_id = project.claim_number(trial_id, self.max_trials)
            if trial_id is None:
                return None
            if project.leases.claim_point(proposal.key, trial_id, proposal.values):
                return self._start(trial_id, 1, proposal)
            # Another group has just claimed the same point: equal histories give equal proposals.
            project.leases.release(trial_id)
            self._taken = [dict(each["values"]) for each in project.leases.claimed_points()]
        return None

    def _unstarted_trial(self) -> tuple[str, dict[str, Any]] | None:
        """A trial whose group died between its claim and its first journal line."""
        project = self._open_project()
        for trial_id in project.leases.unstarted(set(self.trial_log.trials)):
            number = project.leases.last_attempt(trial_id) + 1
            if not (
                project.leases.has_expired(trial_id)
                and project.leases.claim_attempt(trial_id, number)
            ):
                continue
            claimed = project.claimed_values(trial_id)
            found = self.propose(trial_id) if claimed is None else Candidate(claimed, -1, b"")
            if found is not None:
                return self._start(trial_id, number, found)
            project.leases.release(trial_id)
        return None

    def _start(self, trial_id: str, number: int, proposal: Candidate) -> tuple[str, dict[str, Any]]:
        self._open_project().log_event(
            "started",
            trial=trial_id,
            start=number,
            values=proposal.values,
            subspace=proposal.subspace,
            group=self.group.number,
            owner=owner(),
            tuner=self._tuner_id,
        )
        self.attempts[trial_id] = number
        return trial_id, proposal.values

    def _promotion(self, *, closing: bool) -> Candidate | None:
        if self._halving is None:
            return None
        found = self._halving.promotion(*self._halving_inputs(), closing=closing)
        return None if found is None else Candidate(*found)

    def _halving_inputs(self) -> HalvingInputs:
        def objective(record: TrialRecord) -> float:
            # A trial that exceeds max_cost is not promoted.
            over = self.leaderboard.exceeds_max_cost(record)
            return math.nan if over else self.leaderboard.objectives_of(record)[0]

        return self.trial_log.trials.values(), objective, self._taken

    def _remaining_trials(self) -> int | None:
        return None if self.max_trials is None else self.max_trials - len(self.trial_log.trials)

    def _epochs(self) -> dict[str, Any]:
        """A new trial's values in addition to its hyperparameters: its epochs and rung."""
        return self._halving.first_values() if self._halving else {}

    def _open_project(self) -> Project:
        if self.project is None:
            raise RuntimeError("The coordinator has no project yet: call begin() first.")
        return self.project
