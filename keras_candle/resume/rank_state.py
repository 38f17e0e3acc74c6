"""Save and restore a rank's part of a model's state: seeds, metrics, moving statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints.manifest import digest
from keras_candle.engine.base import Engine
from keras_candle.training.gradients import half_accumulated, outermost_optimizers
from keras_candle.training.metrics import metric_variables
from keras_candle.training.reductions import combine_arrays, reductions_of
from keras_candle.training.shared_state import fold_rank, seed_generators
from keras_candle.training.state_reductions import (
    begin_sums,
    combine_state,
    registered_reductions,
    set_sum_bases,
    sum_base,
    sum_bases,
)


def rank_state(model: Any, engine: Engine) -> dict[str, Any]:
    """Return the model state that only this rank has, as plain values.

    Args:
        model: the model, with all its variables created.
        engine: connects the ranks; every rank must call this.
    """
    reductions = reductions_of(model.metrics)
    return {
        "seeds": [_value(each.state) for each in seed_generators(model)],
        "metrics": [_value(each) for each in metric_variables(model)],
        # Some are known only after a metric's first use.
        "reductions": [reductions[id(each)] for each in metric_variables(model)],
        "local": _unlike_root(model, engine),
        "bases": sum_bases(model),
    }


def set_rank_state(model: Any, of_ranks: Sequence[dict[str, Any]], engine: Engine) -> None:
    """Restore per-rank state, except for metrics. Call it once.

    Where the number of ranks has changed, weights that no optimizer updates are combined as at the
    end of an epoch, and each rank draws from a seed of its own.

    Args:
        model: the model, which holds the state of the checkpoint's root.
        of_ranks: the checkpoint's `rank_state` of each rank.
        engine: connects the current ranks.
    """
    same = len(of_ranks) == engine.size
    own = of_ranks[engine.rank if same else 0]
    for generator, value in zip(seed_generators(model), own["seeds"], strict=True):
        generator.state.assign(value)
    local = _local_variables(model)
    set_sum_bases(model, own["bases"])
    if same:
        for place, value in own["local"].items():
            local[place].assign(value)
        return
    fold_rank(model, engine.rank)
    known = registered_reductions(model)
    averaged = {id(each): "mean" for each in half_accumulated(outermost_optimizers(model))}
    for place, variable in enumerate(local):
        root = _value(variable)
        values = [np.asarray(each["local"].get(place, root)) for each in of_ranks]
        reduction = (known | averaged).get(id(variable), "root")
        variable.assign(combine_state(values, reduction, sum_base(variable)).astype(root.dtype))
    begin_sums(model)


def set_metrics(model: Any, of_ranks: Sequence[dict[str, Any]], engine: Engine) -> None:
    """Restore the metrics; where the number of ranks has changed, combine those of all ranks.

    Args:
        model: the model.
        of_ranks: the checkpoint's `rank_state` of each rank.
        engine: connects the current ranks.
    """
    variables = metric_variables(model)
    if len(of_ranks) == engine.size:
        for variable, value in zip(variables, of_ranks[engine.rank]["metrics"], strict=True):
            variable.assign(value)
        return
    reductions = of_ranks[0]["reductions"]
    whole = [
        combine_arrays(values, reduction)
        for reduction, *values in zip(
            reductions, *(own["metrics"] for own in of_ranks), strict=True
        )
    ]
    for variable, reduction, value in zip(variables, reductions, whole, strict=True):
        # On the remaining ranks sums start at 0, as after a reset, so that they count once.
        if engine.is_root or reduction != "sum":
            variable.assign(value)


def _unlike_root(model: Any, engine: Engine) -> dict[int, NDArray[Any]]:
    """Return the variables of this rank that differ from root's within an epoch, by place."""
    if engine.size == 1:
        return {}
    values = [_value(each) for each in _local_variables(model)]
    own = np.array([int(digest(np.ascontiguousarray(each)), 16) >> 1 for each in values], np.int64)
    of_root = engine.broadcast(own)
    return {place: values[place] for place in np.flatnonzero(own != of_root).tolist()}


def _local_variables(model: Any) -> list[Any]:
    gathered = half_accumulated(outermost_optimizers(model))
    return [*model.non_trainable_weights, *gathered]


def _value(variable: Any) -> NDArray[Any]:
    value = np.array(keras.ops.convert_to_numpy(variable))
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else value
