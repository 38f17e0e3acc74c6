"""The results of a search, for people and for `candle report`."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_candle.search.insight import summarise
from keras_candle.search.options import parts_of


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
