"""Summarise the results of a search as JSON values: subspaces, importance, best value so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_candle.errors import SearchError
from keras_candle.search.objectives import parts_of
from keras_candle.search.space import Floats, SearchSpace
from keras_candle.search.surrogate_data import History, features_of

INTERACTIONS = "interactions"
# With fewer trials a forest sees importance in noise.
_FEWEST_TRIALS = 12
_TREES, _POINTS, _LEVELS = 100, 256, 12


def summarise(
    space: SearchSpace,
    history: History,
    started_s: ArrayLike | None = None,
    ended_s: ArrayLike | None = None,
    trials: Sequence[str] | None = None,
    seed: int = 0,
    max_cost: float | None = None,
) -> dict[str, Any]:
    """Summarise the results of a search.

    Args:
        space: the search space.
        history: of its trials.
        started_s: float [trials], when each trial began, in seconds on any clock.
        ended_s: float [trials], when it ended; None: the trials ended in the history's order.
        trials: the trials' names; their numbers by default.
        seed: of the forest behind the importance.
        max_cost: trials above it are never the best while one keeps it; None: no limit.

    Returns:
        `trials`, `failed`, `running`: counts. `best`: {trial, objective}, None without one.
        `subspaces`: one each, {subspace, trials, failed, best, best_trial, improvements (how
        often it found a new best), share (of the budget: cost, else time, else trials)}.
        `importance`: name to part of the variance, see `importance`. `best_so_far`: {trial,
        objective, time_s} lists, one for each ended trial, times from the first start; None
        before the first result. All of them are JSON values.

    Raises:
        SearchError: when the times don't belong to the history.
    """
    names = [str(i) for i in range(len(history.units))] if trials is None else list(trials)
    begins, ends = (_times(each, len(history.units)) for each in (started_s, ended_s))
    order = np.argsort(ends, kind="stable") if ends is not None else np.arange(len(names))
    values = _within(history, max_cost)
    lowest = np.fmin.accumulate(values[order])
    first_s = None if begins is None or not len(begins) else float(begins.min())
    best = _best(np.arange(len(names)), values)
    return {
        "trials": len(names),
        "failed": int((~history.succeeded).sum()),
        "running": len(history.pending),
        "best": best and {"trial": names[best[0]], "objective": best[1]},
        "subspaces": _subspaces(history, names, _budget(history, begins, ends), order, values),
        "importance": importance(space, history, seed),
        "best_so_far": {
            "trial": [names[i] for i in order],
            "objective": [_number(each) for each in lowest],
            "time_s": None
            if ends is None or first_s is None
            else [float(each) - first_s for each in ends[order]],
        },
    }


def importance(space: SearchSpace, history: History, seed: int = 0) -> dict[str, float]:
    """Return the part of the objective's variance that each hyperparameter explains by itself.

    A forest is fitted to the objective; a hyperparameter's main effect is the forest's mean at each
    of its values, over all values of the other hyperparameters (Hutter et al., An Efficient
    Approach for Assessing Hyperparameter Importance, 2014; by sampling instead of exact sums).
    Outliers are cut to the upper fence of the quartiles: the importance among usable trials is of
    interest.

    Args:
        space: the search space.
        history: of its trials.
        seed: of the forest and the samples.

    Returns:
        Dimension to part, the greatest first, then "interactions": the rest. The sum is 1.
        Empty for fewer than 12 trials with a finite objective, or when all values are equal.

    Raises:
        SearchError: when scikit-learn is missing.
    """
    whole = history.succeeded
    if whole.sum() < _FEWEST_TRIALS or not len(space):
        return {}
    forest = _forest(
        features_of(space, history.units[whole]), _fenced(history.objective[whole]), seed
    )
    points = np.random.default_rng(seed).random((_POINTS, len(space)))
    total = float(forest.predict(features_of(space, points)).var())
    if total <= 0:
        return {}
    parts = [_main_effect(space, forest, points, i) / total for i in range(len(space))]
    # Sampling may give a sum slightly above 1.
    scale = max(sum(parts), 1.0)
    found = {each.name: part / scale for each, part in zip(space.dimensions, parts, strict=True)}
    ordered = dict(sorted(found.items(), key=lambda item: -item[1]))
    return {**ordered, INTERACTIONS: max(1.0 - sum(found.values()), 0.0)}


def table(summary: dict[str, Any], most: int = 8) -> str:
    """Format a summary as a few lines of text.

    Args:
        summary: from `summarise`.
        most: the most subspaces and hyperparameters to list, the best first.
    """
    best = summary["best"]
    found = f"best {best['objective']:.6g} (trial {best['trial']})" if best else "no result"
    lines = [f"{summary['trials']} trials, {summary['failed']} failed: {found}"]
    rows = sorted(
        summary["subspaces"],
        key=lambda row: (row["best"] is None, row["best"] or 0.0, row["subspace"]),
    )
    if len(rows) > 1:
        lines += ["", "subspace  trials  failed  budget  new bests  best"]
        lines += [
            f"{row['subspace']:8}  {row['trials']:6}  {row['failed']:6}  {row['share']:6.0%}  "
            f"{row['improvements']:9}  {'-' if row['best'] is None else format(row['best'], '.6g')}"
            for row in rows[:most]
        ]
        if len(rows) > most:
            lines.append(f"... and {len(rows) - most} more")
    shares = list(summary["importance"].items())
    if shares:
        shown = [f"{name} {part:.0%}" for name, part in [*shares[:-1][:most], shares[-1]]]
        lines += ["", "importance: " + ", ".join(shown)]
    return "\n".join(lines)


def _main_effect(space: SearchSpace, forest: Any, points: Floats, number: int) -> float:
    """The variance of the forest's mean over the values of one dimension, where it is active."""
    size = space.dimensions[number].size or _LEVELS
    values = (np.arange(min(size, 4 * _LEVELS)) + 0.5) / min(size, 4 * _LEVELS)
    active = space.active(points)[:, number]
    if not active.any() or len(values) < 2:
        return 0.0
    chosen = np.repeat(points[active], len(values), axis=0)
    chosen[:, number] = np.tile(values, int(active.sum()))
    predicted = forest.predict(features_of(space, chosen)).reshape(-1, len(values))
    return float(predicted.mean(axis=0).var() * active.mean())


def _forest(features: Floats, values: Floats, seed: int) -> Any:
    try:
        from sklearn.ensemble import ExtraTreesRegressor
    except ImportError as cause:
        raise SearchError(
            f"scikit-learn is needed for the importance of hyperparameters and cannot be loaded "
            f"({cause}). Install it: pip install 'keras-candle[tune]'"
        ) from cause
    forest = ExtraTreesRegressor(_TREES, min_samples_leaf=2, random_state=seed)
    return forest.fit(features, values)


def _fenced(values: Floats) -> Floats:
    low, high = np.quantile(values, [0.25, 0.75])
    return np.minimum(values, high + 1.5 * (high - low)) if high > low else values


def _subspaces(
    history: History,
    names: Sequence[str],
    budget: Floats,
    order: NDArray[np.int64],
    values: Floats,
) -> list[dict[str, Any]]:
    new_best = np.zeros(len(names), bool)
    lowest = np.fmin.accumulate(values[order])
    new_best[order] = lowest < np.concatenate([[np.inf], lowest])[: len(lowest)]
    rows = []
    for subspace in np.unique(history.subspace):
        own = np.flatnonzero(history.subspace == subspace)
        best = _best(own, values)
        rows.append(
            {
                "subspace": int(subspace),
                "trials": len(own),
                "failed": int((~history.succeeded[own]).sum()),
                "best": best and best[1],
                "best_trial": best and names[best[0]],
                "improvements": int(new_best[own].sum()),
                "share": float(budget[own].sum() / (budget.sum() or 1.0)),
            }
        )
    return rows


def _within(history: History, max_cost: float | None) -> Floats:
    """Float [trials], the objective; infinite for a failure, and above the limit of the cost."""
    kept = history.succeeded & ~(history.cost > (np.inf if max_cost is None else max_cost))
    return np.where(kept if kept.any() else history.succeeded, history.objective, np.inf)


def _best(numbers: NDArray[np.int64], values: Floats) -> tuple[int, float] | None:
    best = min(numbers, key=lambda i: values[i], default=None)
    if best is None or not np.isfinite(values[best]):
        return None
    return int(best), float(values[best])


def _budget(history: History, begins: Floats | None, ends: Floats | None) -> Floats:
    if len(history.cost) and np.isfinite(history.cost).all():
        return history.cost
    if begins is not None and ends is not None:
        return np.asarray(ends - begins)
    return np.ones(len(history.units))


def _times(given: ArrayLike | None, count: int) -> Floats | None:
    if given is None:
        return None
    times = np.asarray(given, np.float64)
    if times.shape != (count,) or not np.isfinite(times).all():
        raise SearchError(
            f"summarise got times of shape {times.shape} for {count} trials, expected one finite "
            "time for each."
        )
    return times


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def insight_of(oracle: Any) -> dict[str, Any]:
    """Return the results of a search as JSON values.

    Args:
        oracle: a `HyperSpaceOracle`.

    Returns:
        The summary of `insight.summarise` for the first objective, in its own direction; and
        `objectives`: their names and directions, `front`: the trials on the Pareto front,
        `max_cost`, and `table`: {trial, group, subspace, status, objectives, cost, started_s,
        ended_s, values} of each trial.
    """
    records = oracle.records()
    candidates, leaderboard = oracle.coordinator.candidates, oracle.coordinator.leaderboard
    ended = [each for each in records if each.end is not None]
    history = candidates.history(
        records,
        lambda each: leaderboard.objectives_of(each)[:1],
        np.random.default_rng(0),
    )
    found = summarise(
        candidates.cube.space,
        history,
        [each.last_attempt.time_s for each in ended],
        [each.end["time_s"] for each in ended],
        [each.trial_id for each in ended],
        max_cost=oracle.options.max_cost,
    )
    parts = parts_of(oracle.objective)
    if parts[0].direction == "max":
        _negate(found)
    found["objectives"] = [{"name": each.name, "direction": each.direction} for each in parts]
    found["max_cost"] = oracle.options.max_cost
    found["front"] = oracle.front()
    found["table"] = [_row(each, parts) for each in records]
    return found


def _row(record: Any, parts: list[Any]) -> dict[str, Any]:
    end = record.end or {}
    values = end.get("objectives") or [None] * len(parts)
    signs = [-1 if each.direction == "max" else 1 for each in parts]
    return {
        "trial": record.trial_id,
        "group": record.last_attempt.group,
        "subspace": record.subspace,
        "status": record.status,
        "objectives": [v and sign * v for v, sign in zip(values, signs, strict=True)],
        "cost": end.get("cost"),
        "started_s": record.last_attempt.time_s,
        "ended_s": end.get("time_s"),
        "values": record.values,
    }


def _negate(found: dict[str, Any]) -> None:
    """Change the sign of an objective that was minimised as its negative."""
    for row in [found["best"] or {}, *found["subspaces"]]:
        for name in ("objective", "best"):
            if row.get(name) is not None:
                row[name] = -row[name]
    curve = found["best_so_far"]
    curve["objective"] = [None if each is None else -each for each in curve["objective"]]
