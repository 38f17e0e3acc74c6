"""The optimizer that a model has in each precision: in float16 one that scales the loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

# Keras's LossScaleOptimizer begins with it, and halves it at each step that overflows.
FIRST_SCALE = 2.0**15


def loss_scaling(model: Any, scale: float = FIRST_SCALE) -> Any:
    """What `compile` would have put around a model's optimizer in float16; None without one.

    Args:
        model: compiled.
        scale: to begin with.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return None
    inner = unwrapped(optimizer)
    factor = inner.loss_scale_factor  # which the wrapper takes from it
    scaling = keras.optimizers.LossScaleOptimizer(inner, initial_scale=scale)
    inner.loss_scale_factor = factor
    return scaling


@contextmanager
def optimizer_in(model: Any, scaling: Any) -> Iterator[None]:
    """Let a model train with its optimizer, scaled in another way or not at all.

    Args:
        model: compiled.
        scaling: made by `loss_scaling`; None for the optimizer as it is.
    """
    before = getattr(model, "optimizer", None)
    if before is None:
        yield
        return
    inner = unwrapped(before)
    factor = inner.loss_scale_factor
    model.optimizer = inner
    if scaling is not None:
        model.optimizer, inner.loss_scale_factor = scaling, None
    try:
        yield
    finally:
        model.optimizer, inner.loss_scale_factor = before, factor


def unwrapped(optimizer: Any) -> Any:
    """An optimizer without the loss scaling around it."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.inner_optimizer
    return optimizer
