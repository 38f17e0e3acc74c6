"""Detect losses and function metrics that depend on several rows of a batch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.training.probe_rows import batches

_ROWS = 4


def looks_across_rows(loss: Any, y_true: Any, y_pred: Any) -> bool:
    """Whether the loss of a batch depends on more than the separate losses of its rows.

    True where the loss returns one number for all rows, and where its values for probe rows change
    with the other rows of the batch.

    Args:
        loss: a `keras.losses.Loss`.
        y_true: targets of a step; only shape and dtype are used.
        y_pred: predictions of a step; only shape and dtype are used.
    """
    if type(loss).__call__ is not keras.losses.Loss.__call__:
        return True  # it returns one number, of an unknown reduction
    if keras.tree.is_nested(y_true) or keras.tree.is_nested(y_pred):
        return True
    return function_looks_across_rows(
        lambda *data: loss.call(*(keras.ops.convert_to_tensor(each, loss.dtype) for each in data)),
        getattr(loss, "fn", loss),  # LossFunctionWrapper's
        y_true,
        y_pred,
    )


def function_looks_across_rows(call: Any, written: Any, y_true: Any, y_pred: Any) -> bool:
    """Whether a function of (y_true, y_pred) depends on several rows; see `looks_across_rows`.

    Args:
        call: calls the function.
        written: the unwrapped function, since Keras's own functions are known.
        y_true: targets of a step.
        y_pred: predictions of a step.
    """
    if _rank_of_values(call, y_true, y_pred) == 0 or written is keras.losses.circle:
        return True
    module = getattr(written, "__module__", None) or type(written).__module__
    by_keras = module.partition(".")[0] == "keras"
    if by_keras and written not in (keras.losses.dice, keras.losses.tversky):
        return False
    return _values_depend_on_batch(call, y_true, y_pred)


def _rank_of_values(call: Any, y_true: Any, y_pred: Any) -> int | None:
    import tensorflow as tf

    ranks: list[int | None] = []

    def traced(*data: Any) -> Any:
        values = tf.convert_to_tensor(call(*data))
        ranks.append(values.shape.rank)
        return values

    specs = [tf.TensorSpec([None, *each.shape[1:]], each.dtype) for each in (y_true, y_pred)]
    tf.function(traced, autograph=False).get_concrete_function(*specs)
    return ranks[-1]


def _values_depend_on_batch(call: Any, y_true: Any, y_pred: Any) -> bool:
    import tensorflow as tf

    with tf.init_scope():
        probes = batches(y_true, y_pred, _ROWS)
        return any(_differs_from_parts(call, truth, guess) for truth, guess in probes)


def _differs_from_parts(call: Any, *data: NDArray[Any]) -> bool:
    def values(rows: slice) -> NDArray[Any]:
        tensors = [keras.ops.convert_to_tensor(each[rows]) for each in data]
        return np.asarray(keras.ops.convert_to_numpy(call(*tensors)))

    try:
        whole = values(slice(None))
        parts = np.concatenate([values(slice(1)), values(slice(1, None))])
    except Exception:
        return False  # the loss does not accept these labels or shapes
    if whole.shape != parts.shape:
        return True
    known = np.isfinite(whole) & np.isfinite(parts)
    return not np.allclose(whole[known], parts[known], rtol=1e-4, atol=1e-5)
