"""TensorFlow's training steps: compiled in part, traced without running, and their checksums.

XLA has no collectives between processes, so a step that is compiled as a whole cannot average its
gradients over the ranks: it compiles only the forward and backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_candle.backend.tensorflow.gradients import Lookup, is_sparse, parts_of
from keras_candle.errors import CandleError
from keras_candle.keras_private.models import (
    call_for_training,
    get_keras_mask,
    set_keras_mask,
    training_loss,
    update_loss_tracker,
)


def _lookups(variables: Sequence[Any], gradients: Sequence[Any]) -> dict[int, Lookup]:
    """What the indices of sparse gradients are computed from, by the variable's id.

    Raises:
        CandleError: when one variable is looked up by the batch and by fixed indices.
    """
    found = {}
    for variable, gradient in zip(variables, gradients, strict=True):
        if is_sparse(gradient):
            first, *rest = parts_of(gradient)
            if rest:
                raise CandleError(
                    f"{variable.path} is looked up by the batch and by fixed indices, which cannot "
                    "be told apart behind XLA. Compile the model with jit_compile=False."
                )
            found[id(variable)] = first.lookup
    return found


def split_step(model: Any, context: Any) -> Callable[[Any], Any]:
    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def forward_and_backward(x: Any, y: Any, sample_weight: Any) -> Any:
        context.in_xla = True
        try:
            with tf.GradientTape() as tape:
                y_pred = call_for_training(model, x)
                loss = training_loss(model, x, y, y_pred, sample_weight)
                scaled = loss if model.optimizer is None else model.optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, model.trainable_weights)
            context.lookups = _lookups(model.trainable_weights, gradients)
        finally:
            context.in_xla = False
        masks = [get_keras_mask(each) for each in keras.tree.flatten(y_pred)]
        return y_pred, masks, loss, gradients

    def train_step(data: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred, masks, loss, gradients = forward_and_backward(x, y, sample_weight)
        for each, mask in zip(keras.tree.flatten(y_pred), masks, strict=True):
            if mask is not None:
                set_keras_mask(each, mask)  # for the metrics
        first = next(each for each in keras.tree.flatten(x) if each is not None)
        update_loss_tracker(model, loss, tf.shape(first)[0])
        model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    return train_step


def output_rank(function: Callable[..., Any], *like: Any) -> int | None:
    ranks: list[int | None] = []

    def traced(*data: Any) -> Any:
        values = tf.convert_to_tensor(function(*data))
        ranks.append(values.shape.rank)
        return values

    specs = [tf.TensorSpec([None, *each.shape[1:]], each.dtype) for each in like]
    tf.function(traced, autograph=False).get_concrete_function(*specs)
    return ranks[-1]


def trace_step(step: Callable[[Any], Any], batch: Any) -> None:
    tf.function(step, autograph=False).get_concrete_function(batch)


def checksums(variables: Sequence[Any]) -> Callable[[], Any]:
    if not variables:
        return lambda: np.zeros(0)
    # TensorFlow keeps 32-bit integers in the host's memory even where there is a GPU.
    on_gpu = bool(tf.config.get_visible_devices("GPU"))
    dtype = tf.int64 if on_gpu else tf.int32

    def of_all() -> Any:
        return tf.stack([_checksum(variable.value, dtype) for variable in variables])

    # Traced at once: TensorFlow would warn of functions of one code that it traces at a call.
    return tf.function(of_all, autograph=False).get_concrete_function()  # type: ignore[no-any-return]


def _checksum(value: Any, dtype: Any) -> Any:
    """Sum of each 32 bits times their place, in integers: independent of the order."""
    bits = {2: tf.int16, 4: tf.int32, 8: tf.int32}.get(value.dtype.size)
    value = tf.cast(value, tf.int32) if bits is None else tf.bitcast(value, bits)
    flat = tf.reshape(tf.cast(value, dtype), [-1])
    places = 2 * tf.range(tf.size(flat, out_type=dtype), dtype=dtype) + 1
    return tf.reduce_sum(flat * places)
