"""Which trial is next, without a server, a port or a lock.

Each group of ranks has a coordinator. What it decides is a function of the journals of all groups;
who gets a trial is settled by a claim that only one of them can make.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_candle.search.ask_settings import AskSettings
from keras_candle.search.candidates import Candidate, CandidateSource
from keras_candle.search.groups import Group
from keras_candle.search.halving import Halving, Known
from keras_candle.search.hyperparameters import INHERITS
from keras_candle.search.leaderboard import Leaderboard
from keras_candle.search.leases import owner
from keras_candle.search.options import SearchOptions
from keras_candle.search.project import Project
from keras_candle.search.trial_log import TrialLog, TrialRecord

# Without a limit the engine has to be told how far to look ahead.
_NO_LIMIT = 256
# How often a group looks whether the others' trials are free because their groups are gone.
_LOOK_EVERY_S = 0.2


class Coordinator:
    """The search as one group sees it.

    Args:
        group: the group.
        options: how trials are chosen.
        objectives: how many there are.
        max_trials: of all groups together; None for no limit.
        seed: of all draws; None: the one that is recorded in the folder, or a new one.

    Attributes:
        project: the folder; None before `begin`.
        ledger: all trials as the journals tell of them.
        standings: what follows from their results.
        proposals: what proposes the next trial's values.
        starts: the number of the start of each trial that this process has run.
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
        self.ledger, self.starts = TrialLog(), dict[str, int]()
        self.standings = Leaderboard(self.ledger, objectives, options.max_cost)
        self.project: Project | None = None
        settings = AskSettings(
            workers=group.count,
            budget=max_trials or _NO_LIMIT,
            overlap=options.overlap,
            surrogate=options.surrogate,
            cost_exponent=float(options.per_cost),
            cost_limit=options.max_cost,
        )
        self.proposals = CandidateSource(settings, options.subspaces, options.search, seed)
        self._halving: Halving | None = None
        if options.max_epochs is not None:
            self._halving = Halving(
                options.max_epochs, options.eta, options.min_epochs, options.brackets
            )
        self._taken: list[dict[str, Any]] = []
        self._looked_s = -math.inf
        self._tuner_id = ""

    def begin(self, folder: Path, identity: dict[str, Any], hyperparameters: Any) -> Project:
        """Open the search's folder, see `Project.begin`."""
        self.project = Project(folder, self._options.lease_s)
        self.proposals.seed = self.project.begin(
            self.group.number, identity, hyperparameters, self.proposals.seed
        )
        return self.project

    def read(self) -> tuple[set[str], list[dict[str, Any]]]:
        """Take what all groups have written since.

        Returns:
            The trials that have changed, and the hyperparameters that were found while building.
        """
        changed = self.ledger.take(self._opened().new_lines())
        found, self.ledger.hyperparameters = self.ledger.hyperparameters, []
        return changed, found

    def is_over(self) -> bool:
        """Whether no trial runs any more, or may be run again."""
        project = self._opened()
        return not self._open_trials() and not project.claims.unstarted(set(self.ledger.trials))

    def _open_trials(self) -> list[TrialRecord]:
        return [each for each in self.ledger.trials.values() if each.end is None]

    # Which is next.

    def next(self, tuner_id: str) -> tuple[str, dict[str, Any]] | None:
        """Claim the next trial for this group.

        Args:
            tuner_id: which of its tuners asks.

        Returns:
            Its name and values; None when there is none now. As long as others run, one of theirs
            may still become free.
        """
        self._tuner_id = tuner_id
        return self._again() or self._new() or self._unstarted()

    def propose(self, trial_id: str) -> Candidate | None:
        """The values of a new trial; None when there is none to be begun."""
        found = self._promotion(closing=False)
        if found is None and self._halving and self._halving.is_closing(self._left()):
            found = self._promotion(closing=True)
            if found is None and self._halving.is_waiting(*self._known()):
                return None
        if found is None:
            found = self.proposals.propose(
                self.ledger.trials.values(),
                self.standings.objectives_of,
                self.group.number,
                (int(trial_id), self.group.number),
                self._taken,
            )
            if found is not None:
                found.values.update(self._further_values(found.values))
        return found or self._promotion(closing=True)

    def _again(self) -> tuple[str, dict[str, Any]] | None:
        """A trial that failed and may be tried again, or whose group is gone."""
        project = self._opened()
        # To look whether others still live costs more than a short trial may.
        looks = time.monotonic() - self._looked_s > _LOOK_EVERY_S
        if looks:
            self._looked_s = time.monotonic()
        for record in self._open_trials():
            failed = record.last_start.end is not None
            if not ((failed or looks) and project.is_free(record, self._tuner_id)):
                continue
            number = project.claims.last_start(record.trial_id) + 1
            if project.claims.start(record.trial_id, number):
                again = Candidate(record.values, record.subspace, b"")
                return self._start(record.trial_id, number, again)
        return None

    def _new(self) -> tuple[str, dict[str, Any]] | None:
        project = self._opened()
        trial_id = project.free_number(self.max_trials, set(self.ledger.trials))
        while trial_id is not None:
            proposal = self.propose(trial_id)
            if proposal is None:
                return None
            trial_id = project.claim_number(trial_id, self.max_trials)
            if trial_id is None:
                return None
            if project.claims.point(proposal.key, trial_id, proposal.values):
                return self._start(trial_id, 1, proposal)
            # Another group has just taken the same: groups that know the same think alike.
            project.claims.release(trial_id)
            self._taken = [dict(each["values"]) for each in project.claims.points()]
        return None

    def _unstarted(self) -> tuple[str, dict[str, Any]] | None:
        """A trial whose group died between its claim and its first line."""
        project = self._opened()
        for trial_id in project.claims.unstarted(set(self.ledger.trials)):
            number = project.claims.last_start(trial_id) + 1
            if not (project.claims.is_silent(trial_id) and project.claims.start(trial_id, number)):
                continue
            claimed = project.claimed_values(trial_id)
            found = self.propose(trial_id) if claimed is None else Candidate(claimed, -1, b"")
            if found is not None:
                return self._start(trial_id, number, found)
            project.claims.release(trial_id)
        return None

    def _start(self, trial_id: str, number: int, proposal: Candidate) -> tuple[str, dict[str, Any]]:
        self._opened().log_event(
            "started",
            trial=trial_id,
            start=number,
            values=proposal.values,
            subspace=proposal.subspace,
            group=self.group.number,
            owner=owner(),
            tuner=self._tuner_id,
        )
        self.starts[trial_id] = number
        return trial_id, proposal.values

    def _promotion(self, *, closing: bool) -> Candidate | None:
        if self._halving is None:
            return None
        found = self._halving.promotion(*self._known(), closing=closing)
        return None if found is None else Candidate(*found)

    def _known(self) -> Known:
        def objective(record: TrialRecord) -> float:
            # What costs too much already is not trained on.
            dear = self.standings.is_dear(record)
            return math.nan if dear else self.standings.objectives_of(record)[0]

        return self.ledger.trials.values(), objective, self._taken

    def _left(self) -> int | None:
        return None if self.max_trials is None else self.max_trials - len(self.ledger.trials)

    def _further_values(self, values: dict[str, Any]) -> dict[str, Any]:
        """What a new trial is told beside its hyperparameters."""
        records: Iterable[TrialRecord] = self.ledger.trials.values()
        further = self._halving.first_values(records) if self._halving else {}
        if self._options.inherit_weights:
            parent = self.proposals.nearest(values, self.standings.completed())
            further[INHERITS] = parent and parent.trial_id
        return further

    def _opened(self) -> Project:
        if self.project is None:
            raise RuntimeError("begin() comes first")
        return self.project
