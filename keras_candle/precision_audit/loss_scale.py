"""The optimizer of a model in each precision: in float16 one that scales the loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

# The initial scale of Keras's LossScaleOptimizer, halved at each step that overflows.
FIRST_SCALE = 2.0**15


def loss_scaling(model: Any, scale: float = FIRST_SCALE) -> Any:
    """Return the LossScaleOptimizer that `compile` makes in float16; None without an optimizer.

    Args:
        model: a compiled model.
        scale: the initial scale.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return None
    inner = unwrapped(optimizer)
    factor = inner.loss_scale_factor  # the wrapper removes it from the inner optimizer
    scaling = keras.optimizers.LossScaleOptimizer(inner, initial_scale=scale)
    inner.loss_scale_factor = factor
    return scaling


@contextmanager
def optimizer_in(model: Any, scaling: Any) -> Iterator[None]:
    """Replace the loss scaling of a model's optimizer inside a `with` block.

    Args:
        model: a compiled model.
        scaling: made by `loss_scaling`; None for the optimizer without a loss scale.
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
    """Return an optimizer without the loss scaling around it."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.inner_optimizer
    return optimizer
