"""Exact global metrics: combine the metrics' states over the ranks, then compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.engine.base import Engine
from keras_candle.training.metric_reductions import REDUCTIONS, reductions_of


def metric_variables(model: Any) -> list[Any]:
    """The state of all metrics of a model, in a fixed order."""
    return [variable for metric in model.metrics for variable in metric.variables]


def global_result(
    model: Any, engine: Engine, compute: Callable[[Any], Any], logs: Any
) -> dict[str, Any]:
    """What the metrics come to over the rows of all ranks.

    The mean of the ranks' results would be wrong for nearly every metric, and even for a mean
    when the ranks hold unequal numbers of rows. So the states are combined, see
    `register_metric_reduction`, and the result computed once more.

    Args:
        model: the model whose metrics have seen this rank's rows.
        engine: connects the ranks.
        compute: Keras's own way from the metrics' state to logs.
        logs: this rank's logs of the last step, which Keras takes where a custom step returns
            something else than the metrics.

    Returns:
        The logs, the same bits on every rank. The metrics' own state is as before.
    """
    variables = metric_variables(model)
    own = [keras.ops.convert_to_numpy(variable) for variable in variables]
    try:
        whole = _combined(model, variables, own, engine)
        for variable, state in zip(variables, whole, strict=True):
            variable.assign(state)
        result = compute(logs)
        # A custom step may return the results of several metrics under one name.
        values = keras.tree.map_structure(_plain, dict(result))
    finally:
        for variable, state in zip(variables, own, strict=True):
            variable.assign(state)
    if result is logs:
        names = keras.tree.map_structure(lambda _: "", values)
        engine.agree("the names in the logs of the training step", names)
        return dict(keras.tree.map_structure(lambda x: _plain(engine.allreduce(x, "mean")), values))
    return dict(engine.broadcast(values))


def _combined(
    model: Any, variables: list[Any], own: list[NDArray[Any]], engine: Engine
) -> list[NDArray[Any]]:
    """The states of all ranks as one; each kind of reduction takes one collective."""
    reductions = reductions_of(model.metrics)
    whole: list[NDArray[Any]] = list(own)
    for reduction in REDUCTIONS:
        some = [i for i, each in enumerate(variables) if reductions[id(each)] == reduction]
        if not some:
            continue
        flat = np.concatenate([np.ravel(own[i]).astype(np.float64) for i in some])
        flat = engine.broadcast(flat) if reduction == "root" else engine.allreduce(flat, reduction)
        start = 0
        for i in some:
            part = flat[start : start + own[i].size].reshape(own[i].shape)
            whole[i] = part.astype(own[i].dtype)
            start += own[i].size
    return whole


def combined_states(
    of_ranks: Sequence[Sequence[NDArray[Any]]], reductions: Sequence[str]
) -> list[NDArray[Any]]:
    """The states of several ranks' metrics as one, without an engine.

    Args:
        of_ranks: the variables' values on each rank.
        reductions: the reduction of each variable.

    Example:
        >>> combined_states([[np.array(1)], [np.array(2)]], ["sum"])
        [array(3)]
    """
    combine: dict[str, Any] = {"sum": np.sum, "mean": np.mean, "min": np.min, "max": np.max}
    whole = []
    for values, reduction in zip(zip(*of_ranks, strict=True), reductions, strict=True):
        if reduction == "root":
            whole.append(values[0])
        else:
            stacked = np.stack(values).astype(np.float64)
            whole.append(np.asarray(combine[reduction](stacked, axis=0)).astype(values[0].dtype))
    return whole


def _plain(value: Any) -> Any:
    array = keras.ops.convert_to_numpy(value)
    return float(array) if array.ndim == 0 else array
