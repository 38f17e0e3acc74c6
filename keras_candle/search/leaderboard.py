"""The leaderboard of a search: its ranking, failures in a row, and the Pareto front."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_candle.errors import SearchError
from keras_candle.search import trial_log as states
from keras_candle.search.space import Floats
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


# Searches whose trials fail.


class TooManyFailuresError(SearchError, RuntimeError):
    """Raised after `max_consecutive_failed_trials` failures in a row; Keras Tuner: RuntimeError."""


def check_some_succeeded(records: Sequence[TrialRecord]) -> None:
    """Raise an error when all trials of a search failed.

    Args:
        records: all trials of a search that has ended.

    Raises:
        SearchError: when all of them failed, with the last one's traceback.
    """
    ends = [each.end for each in records if each.end is not None]
    if ends and all(end["status"] == "FAILED" for end in ends):
        raise SearchError(
            f"None of the {len(ends)} trials gave a result. The last one's traceback:\n"
            f"{ends[-1]['message']}"
        )


def describe_failures(row: Sequence[TrialRecord]) -> str:
    """Return the error message for trials that failed in a row."""
    lines = []
    for record in row:
        message = str((record.end or {}).get("message") or "no error message")
        lines.append(f"  trial {record.trial_id} with {record.values}: {_last_line(message)}")
    listed = "\n".join(lines)
    last = str((row[-1].end or {}).get("message") or "")
    return (
        f"{len(row)} trials failed in a row, so the search has stopped "
        f"(max_consecutive_failed_trials):\n{listed}\nThe last one's traceback:\n{last}"
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else text


# Several objectives: the Pareto front, and scalarised values of trials.


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Return which trials are on the Pareto front.

    A trial is dominated when another one is at least as good in every objective and better in one.
    Trials with equal values don't dominate each other.

    Args:
        values: float [trials, objectives], all to be minimised; NaN where a trial has no value.

    Returns:
        bool [trials]; False for each trial with a value that is not finite.

    Example:
        >>> non_dominated([[1, 4], [2, 2], [3, 3], [float("nan"), 0]]).tolist()
        [True, True, False, False]
    """
    table = _table(values)
    front = np.zeros(len(table), bool)
    # No trial is dominated by one that is later in this order, so one comparison with the front so
    # far is enough.
    whole = np.flatnonzero(np.isfinite(table).all(axis=1))
    for trial in whole[np.lexsort(table[whole].T[::-1])]:
        better = table[front]
        no_worse = (better <= table[trial]).all(axis=1)
        front[trial] = not (no_worse & (better < table[trial]).any(axis=1)).any()
    return front


def scalarise(
    values: ArrayLike, weights: ArrayLike | np.random.Generator, augmentation: float = 0.05
) -> Floats:
    """Scalarise each trial's objectives by the augmented Chebyshev distance of its ranks.

    Each objective is replaced by its rank among the trials, from 0 (best) to 1, so that neither
    units nor outliers matter. The largest weighted rank counts, plus a small part of their sum,
    which keeps dominated trials behind those that dominate them (Steuer and Choo, An Interactive
    Weighted Tchebycheff Procedure, 1983). Weights drawn anew for each decision lead a search along
    the whole front, also where it isn't convex (Knowles, ParEGO, 2006).

    Args:
        values: float [trials, objectives], all to be minimised; NaN where a trial has no value.
        weights: float [objectives], not negative, not all zero; or a generator, which draws them
            evenly among all that sum to one.
        augmentation: the weight of the ranks' sum.

    Returns:
        float [trials], to be minimised; NaN for each trial with a value that is not finite.

    Raises:
        SearchError: when the weights don't fit the objectives.
    """
    table = _table(values)
    if isinstance(weights, np.random.Generator):
        weights = weights.dirichlet(np.ones(table.shape[1]))
    shares = np.asarray(weights, np.float64)
    if shares.shape != table.shape[1:] or not (shares >= 0).all() or not shares.sum() > 0:
        raise SearchError(
            f"scalarise got the weights {shares.tolist()} for {table.shape[1]} objectives, "
            "expected one for each, not negative and not all zero."
        )
    whole = np.isfinite(table).all(axis=1)
    result = np.full(len(table), np.nan)
    ranks = _ranks(table[whole])
    largest = (ranks * shares / shares.sum()).max(axis=1, initial=0.0)
    result[whole] = largest + augmentation * ranks.sum(axis=1)
    return result


def _ranks(table: Floats) -> Floats:
    from scipy.stats import rankdata

    ranks: Floats = rankdata(table, axis=0).reshape(table.shape)
    return (ranks - 1) / max(len(table) - 1, 1)


def _table(values: ArrayLike) -> Floats:
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or table.shape[1] == 0:
        raise SearchError(
            f"The values have the shape {table.shape}, expected [trials, objectives] with at "
            "least one objective."
        )
    return table
