"""Create a model's variables before its first step, so that all ranks begin with equal ones."""

from __future__ import annotations

from typing import Any

from keras_candle.errors import CandleError
from keras_candle.keras_private.models import build_symbolically, layers_inside


def build_model(model: Any, batch: Any) -> None:
    """Create the variables of a model and of its metrics without running a step.

    Args:
        model: a compiled keras model.
        batch: arrays or tensor specs like those of a step.

    Raises:
        CandleError: when the model can only be built by a step that runs.
    """
    optimizer: Any = getattr(model, "optimizer", None)
    build_later = optimizer is not None and not optimizer.built
    problem: Exception | None = None
    try:
        if build_later:
            # On one rank Keras builds the optimizer in its first step. Some (ScheduleFreeAdamW)
            # would be built differently here.
            optimizer.built = True
        build_symbolically(model, batch)
    except Exception as caught:
        problem = caught
    finally:
        if build_later:
            optimizer.built = False
    # A model that only has a training step (a GAN) need not be built itself.
    parts = layers_inside(model)
    if problem is not None and not all(layer.built for layer in parts):
        _build_by_tracing(model, batch, problem)


def _build_by_tracing(model: Any, batch: Any, cause: Exception) -> None:
    import tensorflow as tf

    try:
        tf.function(model.train_step, autograph=False).get_concrete_function(batch)
    except Exception as also:
        raise CandleError(
            f"Cannot build the model before its first step ({cause}; {also}). Build it in the "
            "function that makes it: model.build(input_shape), or call it on one batch."
        ) from cause
