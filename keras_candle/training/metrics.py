"""Exact global metrics: add up the metrics' states over the ranks, then compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_candle.engine.base import Engine


def metric_variables(model: Any) -> list[Any]:
    """The state of all metrics of a model: sums and counts, in a fixed order."""
    return [variable for metric in model.metrics for variable in metric.variables]


def global_result(
    model: Any, engine: Engine, compute: Callable[[Any], Any], logs: Any
) -> dict[str, Any]:
    """What the metrics come to over the rows of all ranks.

    The mean of the ranks' results would be wrong for nearly every metric, and even for a mean
    when the ranks hold unequal numbers of rows. All of Keras's own metrics are functions of
    sums, so the sums are what is added.

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
    flat = np.concatenate([np.ravel(state).astype(np.float64) for state in own] or [np.zeros(0)])
    whole = engine.allreduce(flat)
    try:
        _assign(variables, whole)
        result = compute(logs)
        values = {name: _plain(value) for name, value in result.items()}
    finally:
        for variable, state in zip(variables, own, strict=True):
            variable.assign(state)
    if result is logs:
        names = sorted(values)
        engine.agree("the names in the logs of the training step", names)
        return {name: _plain(engine.allreduce(values[name], "mean")) for name in names}
    return dict(engine.broadcast(values))


def _plain(value: Any) -> Any:
    array = keras.ops.convert_to_numpy(value)
    return float(array) if array.ndim == 0 else array


def _assign(variables: list[Any], flat: np.ndarray[Any, Any]) -> None:
    start = 0
    for variable in variables:
        size = int(np.prod(variable.shape, dtype=np.int64))
        part = flat[start : start + size].reshape(variable.shape)
        variable.assign(part.astype(keras.backend.standardize_dtype(variable.dtype)))
        start += size
