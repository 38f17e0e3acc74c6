"""Recognise and repair differences between the ranks that are no larger than rounding.

A training step may change the weights by a rank's own gradient and back, as sharpness-aware
minimisation does: (w + e) - e is w but for its last bits, and e differs by rank. The gradients that
then update the weights are averaged, so that such ranks drift apart by rounding alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.engine.base import Engine

# A step's rounding is a few units in the last place, at random, so that it grows with the root of
# the number of steps. A gradient that was not averaged is larger by orders of magnitude.
_UNITS_PER_STEP = 8
_DTYPES = ("float32", "float64")


def repair_rounding(
    engine: Engine,
    differing: Sequence[Any],
    weights: Sequence[Any],
    slots: Sequence[Any],
    steps: int,
) -> float | None:
    """Give all ranks the root's variables, if they differ by no more than rounding.

    Args:
        engine: connects the ranks.
        differing: keras variables that are not the same on all ranks.
        weights: weights of the model that averaged gradients have updated. Any difference in
            another weight means that its gradient was not averaged.
        slots: variables that an optimizer keeps for each weight, such as moving averages.
        steps: training steps since the ranks were equal.

    Returns:
        The largest difference. None, without any change, when it is larger than rounding.
    """
    own = [_array(variable) for variable in differing]
    of_root = engine.broadcast(own if engine.is_root else None)
    largest = float(engine.allreduce(max(map(_largest, map(_array, weights)), default=0.0), "max"))
    of_model, of_optimizer = {id(each) for each in weights}, {id(each) for each in slots}
    units = _UNITS_PER_STEP * math.sqrt(max(steps, 1))
    apart, excess = [], []
    for variable, value, root_value in zip(differing, own, of_root, strict=True):
        dtype, scale = keras.backend.standardize_dtype(variable.dtype), 0.0
        if dtype in _DTYPES and id(variable) in of_model:
            scale = largest
        elif dtype in _DTYPES and id(variable) in of_optimizer:
            scale = _largest(root_value)
        apart.append(_largest(value - root_value) if scale else math.inf)
        excess.append(apart[-1] - (units * float(np.finfo(dtype).eps) * scale if scale else 0.0))
    most = engine.allreduce([max(apart), max(excess)], "max")
    if not most[1] <= 0:
        return None
    for variable, root_value in zip(differing, of_root, strict=True):
        variable.assign(root_value)
    return float(most[0])


def _array(variable: Any) -> NDArray[Any]:
    return np.asarray(keras.ops.convert_to_numpy(variable))


def _largest(array: NDArray[Any]) -> float:
    largest = float(np.abs(array).max(initial=0.0))
    return largest if math.isfinite(largest) else math.inf
