"""Keras's optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from keras_candle.keras_private.contract import private_attribute

_RATE = "learning-rate scaling"
_ACCUMULATION = "accumulation without traffic"


class RateMethods(NamedTuple):
    """The methods of an optimizer that use its learning rate.

    Attributes:
        current_rate: () -> the rate of this step.
        update_step: (gradients, variables, rate).
        weight_decay: (variables).
    """

    current_rate: Callable[[], Any]
    update_step: Callable[[Any, Any, Any], None]
    weight_decay: Callable[[Any], None]


def optimized_variables(optimizer: Any) -> list[Any]:
    """Return the variables that an optimizer was built for; none before it is built."""
    purpose = "the variables of an optimizer"
    return list(private_attribute(optimizer, "_trainable_variables", purpose))


def iterations_of(optimizer: Any) -> Any:
    """Return the variable that counts an optimizer's own steps, accumulating ones too."""
    return private_attribute(optimizer, "_iterations", _RATE)


def rate_or_schedule(optimizer: Any) -> Any:
    """Return an optimizer's learning rate as it keeps it: a variable or a schedule."""
    return private_attribute(optimizer, "_learning_rate", _RATE)


def rate_methods(optimizer: Any) -> RateMethods:
    """Return the methods of an optimizer that use its learning rate."""
    return RateMethods(
        private_attribute(optimizer, "_get_current_learning_rate", _RATE),
        private_attribute(optimizer, "_backend_update_step", _RATE),
        private_attribute(optimizer, "_apply_weight_decay", _RATE),
    )


def replace_rate_methods(optimizer: Any, methods: RateMethods) -> None:
    """Replace the methods by which an instance uses its learning rate."""
    optimizer._get_current_learning_rate = methods.current_rate
    optimizer._backend_update_step = methods.update_step
    optimizer._apply_weight_decay = methods.weight_decay


def accumulated_gradients(optimizer: Any) -> list[Any]:
    """Return the variables in which a built optimizer accumulates gradients."""
    return list(private_attribute(optimizer, "_accumulated_gradients", _ACCUMULATION))


def replace_clipping(optimizer: Any, change: Callable[[Any], Any]) -> None:
    """Let an instance clip what `change` makes of the gradients, right before it applies them."""
    clip = private_attribute(type(optimizer), "_clip_gradients", _ACCUMULATION)
    optimizer._clip_gradients = lambda gradients: clip(optimizer, change(gradients))
