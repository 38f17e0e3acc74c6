"""How the trials of a search stand: which gave a result, which are best, which failed in a row."""

from __future__ import annotations

import time

import numpy as np

from keras_candle.search import trial_log as states
from keras_candle.search.pareto import non_dominated
from keras_candle.search.trial_log import TrialLog, TrialRecord


class Leaderboard:
    """What follows from the results in a ledger.

    Args:
        ledger: all trials as the journals tell of them.
        objectives: how many there are.
        max_cost: above which a trial stands behind all others, and never on the front; None for no
            limit.
    """

    def __init__(self, ledger: TrialLog, objectives: int, max_cost: float | None) -> None:
        self._ledger, self._objectives, self._max_cost = ledger, objectives, max_cost
        self.begin()

    def begin(self) -> None:
        """The search starts now: failures from before don't count any more."""
        self._began_s = time.time()

    def records(self) -> list[TrialRecord]:
        """All trials, by their numbers."""
        return sorted(self._ledger.trials.values(), key=lambda each: each.trial_id)

    def completed(self) -> list[TrialRecord]:
        """Those that gave a result, by their numbers."""
        return [each for each in self.records() if each.status == states.COMPLETED]

    def objectives_of(self, record: TrialRecord) -> list[float]:
        """A trial's objectives, each to be minimised; NaN for one that failed."""
        end = record.end or {}
        return end.get("objectives") or [float("nan")] * self._objectives

    def is_dear(self, record: TrialRecord) -> bool:
        """Whether a trial is above the limit of the cost."""
        cost, limit = (record.end or {}).get("cost"), self._max_cost
        return limit is not None and cost is not None and cost > limit

    def front(self) -> list[str]:
        """The trials that none other betters in all objectives, by the first objective.

        None of them is above the limit of the cost.
        """
        ended = [each for each in self.completed() if not self.is_dear(each)]
        if not ended:
            return []
        values = np.array([self.objectives_of(each) for each in ended], float)
        chosen = np.flatnonzero(non_dominated(values))
        return [ended[i].trial_id for i in sorted(chosen, key=lambda i: (values[i, 0], i))]

    def ranking(self) -> list[str]:
        """The trials with a result, the best first: within the limit, of the front, by score."""
        front = set(self.front()) if self._objectives > 1 else set()

        def place(record: TrialRecord) -> tuple[bool, bool, float, str]:
            value = self.objectives_of(record)[0]
            return self.is_dear(record), record.trial_id not in front, value, record.trial_id

        return [each.trial_id for each in sorted(self.completed(), key=place)]

    def best_so_far(self) -> float | None:
        """The best first objective of a full training within the limit, to be minimised.

        None before one ended.
        """
        full = (each for each in self.completed() if (each.end or {}).get("fidelity") == 1.0)
        kept = (self.objectives_of(each)[0] for each in full if not self.is_dear(each))
        return min(kept, default=None)

    def failures_in_a_row(self, most: int) -> list[TrialRecord]:
        """The first `most` trials of this start that failed one after the other; else nothing."""
        row: list[TrialRecord] = []
        for record in self._ledger.ended() if len(self._ledger.failures) >= most else ():
            if (record.end or {})["time_s"] < self._began_s:
                continue
            row = [*row, record] if record.status == states.FAILED else []
            if len(row) >= most:
                return row
        return []
