"""A training step of which XLA compiles only the forward and backward pass.

XLA has no collectives between processes, so a step that is compiled as a whole cannot average its
gradients over the ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_candle.errors import CandleError
from keras_candle.keras_private.models import (
    TensorFlowTrainer,
    call_for_training,
    get_keras_mask,
    set_keras_mask,
    training_loss,
    update_loss_tracker,
)
from keras_candle.training.batch_normalization import synchronized_variables
from keras_candle.training.fixed_lookups import Lookup, parts_of
from keras_candle.training.step_context import StepContext


def why_not(model: Any) -> str | None:
    """Return the reason why a model's training step cannot be compiled in part, or None."""
    if type(model).train_step is not TensorFlowTrainer.train_step:
        return "the model has a training step of its own"
    if synchronized_variables(model):
        return "batch normalisation needs a collective in the forward pass"
    return None


def _lookups(variables: Sequence[Any], gradients: Sequence[Any]) -> dict[int, Lookup]:
    """What the indices of sparse gradients are computed from, by the variable's id.

    Raises:
        CandleError: when one variable is looked up by the batch and by fixed indices.
    """
    import tensorflow as tf

    found = {}
    for variable, gradient in zip(variables, gradients, strict=True):
        if isinstance(gradient, tf.IndexedSlices):
            first, *rest = parts_of(gradient)
            if rest:
                raise CandleError(
                    f"{variable.path} is looked up by the batch and by fixed indices, which cannot "
                    "be told apart behind XLA. Compile the model with jit_compile=False."
                )
            found[id(variable)] = first.lookup
    return found


def split_step(model: Any, step: StepContext) -> Callable[[Any], Any]:
    """Split Keras's own training step in two parts, of which XLA compiles the first.

    Args:
        model: a model without a training step of its own.
        step: its `in_xla` is set while the compiled part is traced.

    Returns:
        A function from a batch to logs.
    """
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def forward_and_backward(x: Any, y: Any, sample_weight: Any) -> Any:
        step.in_xla = True
        try:
            with tf.GradientTape() as tape:
                y_pred = call_for_training(model, x)
                loss = training_loss(model, x, y, y_pred, sample_weight)
                scaled = loss if model.optimizer is None else model.optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, model.trainable_weights)
            step.lookups = _lookups(model.trainable_weights, gradients)
        finally:
            step.in_xla = False
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
