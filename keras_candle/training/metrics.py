"""Exact global metrics: combine the metrics' states over the ranks, then compute the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.keras_private.models import metric_direction
from keras_candle.training.metric_reductions import reductions_of
from keras_candle.training.metric_updates import recompute_metrics
from keras_candle.training.reductions import reduce_arrays


def metric_variables(model: Any) -> list[Any]:
    """Return the state variables of all metrics of a model, in a fixed order."""
    return [variable for metric in model.metrics for variable in metric.variables]


def direction_in_model(model: Any, name: str) -> str | None:
    """Return "min" or "max", the better direction of a model's metric; None if unknown to Keras.

    Args:
        model: a compiled model.
        name: of the metric, as in an epoch's logs.
    """
    asked = name.removeprefix("val_")
    parts = [part for each in model.metrics for part in (each, *getattr(each, "metrics", ()))]
    # An output's name may precede the metric's.
    found = [each for each in parts if f"_{asked}".endswith(f"_{each.name}")]
    longest = max(found, key=lambda each: len(each.name), default=None)
    return metric_direction(longest)


def global_result(
    model: Any, engine: Engine, compute: Callable[[Any], Any], logs: Any
) -> dict[str, Any]:
    """Compute the metrics over the rows of all ranks.

    The mean of the ranks' results would be wrong for nearly every metric, and even for a mean
    when the ranks hold unequal numbers of rows. So this combines the states, see
    `register_metric_reduction`, and computes the result from them.

    Args:
        model: the model whose metrics have seen this rank's rows.
        engine: connects the ranks.
        compute: Keras's own function from the metrics' state to logs.
        logs: this rank's logs of the last step, which Keras uses where a custom step returns
            other values than the metrics.

    Returns:
        The logs, the same bits on every rank. The metrics' own state is as before.
    """
    variables = metric_variables(model)
    own = [keras.ops.convert_to_numpy(variable) for variable in variables]
    try:
        reductions = reductions_of(model.metrics)
        whole = reduce_arrays(own, [reductions[id(each)] for each in variables], engine)
        for variable, state in zip(variables, whole, strict=True):
            variable.assign(state)
        recompute_metrics(model)
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


def _plain(value: Any) -> Any:
    array = keras.ops.convert_to_numpy(value)
    return float(array) if array.ndim == 0 else array
