"""What a search has found, for people and for `candle report`."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_candle.search.insight import summarise
from keras_candle.search.options import parts_of


def insight_of(oracle: Any) -> dict[str, Any]:
    """What was found, as JSON values.

    Args:
        oracle: a `HyperSpaceOracle`.

    Returns:
        What `insight.summarise` returns, of the first objective, in its own direction; and
        `objectives`: their names and directions, `front`: the trials that none betters,
        `max_cost`, and `table`: {trial, group, subspace, status, objectives, cost, started_s,
        ended_s, values} of each trial.
    """
    records = oracle.records()
    proposals, standings = oracle.coordinator.proposals, oracle.coordinator.standings
    ended = [each for each in records if each.end is not None]
    history = proposals.history(
        records,
        lambda each: standings.objectives_of(each)[:1],
        np.random.default_rng(0),
    )
    found = summarise(
        proposals.cube.space,
        history,
        [each.last_start.time_s for each in ended],
        [each.end["time_s"] for each in ended],
        [each.trial_id for each in ended],
        max_cost=oracle.options.max_cost,
    )
    parts = parts_of(oracle.objective)
    if parts[0].direction == "max":
        _turn(found)
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
        "group": record.last_start.group,
        "subspace": record.subspace,
        "status": record.status,
        "objectives": [v and sign * v for v, sign in zip(values, signs, strict=True)],
        "cost": end.get("cost"),
        "started_s": record.last_start.time_s,
        "ended_s": end.get("time_s"),
        "values": record.values,
    }


def _turn(found: dict[str, Any]) -> None:
    """What was minimised as its negative, as the user knows it."""
    for row in [found["best"] or {}, *found["subspaces"]]:
        for name in ("objective", "best"):
            if row.get(name) is not None:
                row[name] = -row[name]
    curve = found["best_so_far"]
    curve["objective"] = [None if each is None else -each for each in curve["objective"]]
