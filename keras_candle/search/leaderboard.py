"""The leaderboard of a search: completed trials, their ranking, and failures in a row."""

from __future__ import annotations

import time

import numpy as np

from keras_candle.search import trial_log as states
from keras_candle.search.pareto import non_dominated
from keras_candle.search.trial_log import TrialLog, TrialRecord


class Leaderboard:
    """Ranks the trials of a search by their results.

    Args:
        trial_log: all trials, read from the journals.
        objectives: the number of objectives.
        max_cost: trials above it rank last and are never on the front; None: no limit.
    """

    def __init__(self, trial_log: TrialLog, objectives: int, max_cost: float | None) -> None:
        self._trial_log, self._objectives, self._max_cost = trial_log, objectives, max_cost
        self.begin()

    def begin(self) -> None:
        """Count consecutive failures from now on."""
        self._began_s = time.time()

    def records(self) -> list[TrialRecord]:
        """Return all trials, sorted by number."""
        return sorted(self._trial_log.trials.values(), key=lambda each: each.trial_id)

    def completed(self) -> list[TrialRecord]:
        """Return the completed trials, sorted by number."""
        return [each for each in self.records() if each.status == states.COMPLETED]

    def objectives_of(self, record: TrialRecord) -> list[float]:
        """Return a trial's objectives, each to be minimised; NaN for a failed trial."""
        end = record.end or {}
        return end.get("objectives") or [float("nan")] * self._objectives

    def exceeds_max_cost(self, record: TrialRecord) -> bool:
        """Return whether a trial's cost is above `max_cost`."""
        cost, limit = (record.end or {}).get("cost"), self._max_cost
        return limit is not None and cost is not None and cost > limit

    def front(self) -> list[str]:
        """Return the trials on the Pareto front, sorted by the first objective.

        None of them is above `max_cost`.
        """
        ended = [each for each in self.completed() if not self.exceeds_max_cost(each)]
        if not ended:
            return []
        values = np.array([self.objectives_of(each) for each in ended], float)
        chosen = np.flatnonzero(non_dominated(values))
        return [ended[i].trial_id for i in sorted(chosen, key=lambda i: (values[i, 0], i))]

    def ranking(self) -> list[str]:
        """Return the completed trials, the best first: by `max_cost`, by front, then by score."""
        front = set(self.front()) if self._objectives > 1 else set()

        def place(record: TrialRecord) -> tuple[bool, bool, float, str]:
            value = self.objectives_of(record)[0]
            return (
                self.exceeds_max_cost(record),
                record.trial_id not in front,
                value,
                record.trial_id,
            )

        return [each.trial_id for each in sorted(self.completed(), key=place)]

    def best_so_far(self) -> float | None:
        """Return the best first objective of a full training within `max_cost`, minimised.

        None before one ended.
        """
        full = (each for each in self.completed() if (each.end or {}).get("fidelity") == 1.0)
        kept = (self.objectives_of(each)[0] for each in full if not self.exceeds_max_cost(each))
        return min(kept, default=None)

    def consecutive_failures(self, most: int) -> list[TrialRecord]:
        """Return the first `most` trials since `begin` that failed in a row; else an empty list."""
        row: list[TrialRecord] = []
        for record in self._trial_log.ended() if len(self._trial_log.failures) >= most else ():
            if (record.end or {})["time_s"] < self._began_s:
                continue
            row = [*row, record] if record.status == states.FAILED else []
            if len(row) >= most:
                return row
        return []
