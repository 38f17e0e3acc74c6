"""Switch a model, its optimizer and its variables to another precision and back."""

from __future__ import annotations

import functools
import linecache
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import keras

from keras_candle.keras_private.models import (
    output_operations,
)
from keras_candle.precision_audit.layers import FLOAT32, Part, operations_before

# In a functional model, ops.cast(mask, x.dtype) keeps the dtype of x when the model was made.
_READS_A_DTYPE = ".dtype", "compute_dtype"
# The initial scale of Keras's LossScaleOptimizer, halved at each step that overflows.
FIRST_SCALE = 2.0**15


def watch_casts(keras_module: ModuleType, is_own: Callable[[str], bool]) -> None:
    """Mark casts, made from now on, to a dtype that the script reads from an object.

    Args:
        keras_module: Keras, imported by the script.
        is_own: returns whether a file is the script's.
    """
    plain = keras_module.Operation.__call__

    @functools.wraps(plain)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        is_new = type(self).__name__ == "Cast" and not hasattr(self, "_candle_follows")
        if is_new and keras.backend.is_float_dtype(self.dtype):
            self._candle_follows = _is_read(is_own)
        return plain(self, *args, **kwargs)

    keras_module.Operation.__call__ = call


def _is_read(is_own: Callable[[str], bool]) -> bool:
    """Whether the script's current line reads a dtype."""
    frame = sys._getframe(2)
    while frame is not None and not is_own(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return False
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    return any(word in line for word in _READS_A_DTYPE)


def is_pinned(part: Part, pins: Collection[str]) -> bool:
    """Whether a part computes in float32 when the parts named in `pins` get dtype="float32"."""
    if part.name in pins:
        return True
    return part.inside_keras_layer and part.parent is not None and is_pinned(part.parent, pins)


@contextmanager
def switched(parts: Sequence[Part], precision: str, pins: Collection[str] = ()) -> Iterator[None]:
    """Switch a model to a precision inside a `with` block; its variables stay.

    In all mixed precisions variables are float32, so only the dtype policies change, and the
    dtype of casts that followed it.

    Args:
        parts: the parts of the model.
        precision: one of `PRECISIONS`.
        pins: names of parts that compute in float32.
    """
    before = [(part.layer, part.layer.dtype_policy) for part in parts if part.follows]
    casts = [(cast, cast.dtype) for cast in _following_casts(parts)]
    pinned = {id(part.layer) for part in parts if is_pinned(part, pins)}
    try:
        for part in parts:
            if part.follows:
                part.layer.dtype_policy = FLOAT32 if id(part.layer) in pinned else precision
        for cast, _ in casts:
            beside = {id(layer) for layer in _layers_beside(cast)}
            cast.dtype = FLOAT32 if beside & pinned else keras.DTypePolicy(precision).compute_dtype
        yield
    finally:
        for layer, policy in before:
            layer.dtype_policy = policy
        for cast, dtype in casts:
            cast.dtype = dtype


def _following_casts(parts: Sequence[Part]) -> list[Any]:
    operations = [each for part in parts for each in getattr(part.layer, "operations", ())]
    unique = {id(each): each for each in operations if getattr(each, "_candle_follows", False)}
    return list(unique.values())


def _layers_beside(cast: Any) -> list[Any]:
    """The layers whose outputs meet a cast's before the next layer: one of them set its dtype."""
    found, todo = operations_before(cast), [cast]
    while todo:
        for operation in output_operations(todo.pop()):
            if not isinstance(operation, keras.Layer):
                found += operations_before(operation)
                todo.append(operation)
    return found


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
