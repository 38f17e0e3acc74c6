"""Learning-rate scaling and warm-up, applied where the optimizer uses the rate.

The optimizer's own rate stays the base rate: the user sees, schedules and saves it, and a model
that is loaded again is not scaled twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from keras_candle.keras_private.optimizers import (
    RateMethods,
    iterations_of,
    rate_methods,
    rate_or_schedule,
    replace_rate_methods,
)


@dataclass
class LearningRateScale:
    """The scaling factor at a step: 1 at the first step, then linearly up to the full factor.

    Attributes:
        factor: the full factor.
        warmup_steps: the length of the ramp in steps; 0 for none.
        advance: the number of schedule steps for one step, since an epoch of N ranks has 1/N of
            the steps that the schedule was made for.
        offset: schedule steps to add, after a part of the training with another number of ranks.

    Source: Goyal et al. 2017, section 2.2, "gradual warmup".
    """

    factor: float = 1.0
    warmup_steps: int = 0
    advance: int = 1
    offset: int = 0

    def position(self, iterations: Any) -> Any:
        """Return the step of a schedule after `iterations` steps.

        Example:
            >>> LearningRateScale(advance=2, offset=3).position(10)
            23
        """
        position = iterations * self.advance
        return position + self.offset if self.offset else position

    def at(self, iterations: Any) -> Any:
        """Return the factor after `iterations` steps, a number or a tensor like `iterations`.

        Example:
            >>> scale = LearningRateScale(factor=5.0, warmup_steps=4)
            >>> [float(scale.at(step)) for step in (0, 1, 4, 9)]
            [1.0, 2.0, 5.0, 5.0]
        """
        if self.factor == 1.0 or not self.warmup_steps:
            return self.factor
        steps = keras.ops.cast(iterations, "float32")
        if self.offset:
            steps += self.offset / self.advance
        progress = steps / self.warmup_steps
        return 1.0 + (self.factor - 1.0) * keras.ops.minimum(progress, 1.0)


def scale_learning_rate(optimizer: Any, scale: LearningRateScale) -> None:
    """Apply a scale wherever a leaf optimizer uses its learning rate.

    It replaces methods on the instance; a second call replaces the scale of the first.

    Args:
        optimizer: a keras optimizer that wraps no other one.
        scale: read at each trace; to change the factor, change it and trace again.
    """
    plain = getattr(optimizer, "_candle_plain_rate", None) or rate_methods(optimizer)

    def base_rate() -> Any:
        rate = rate_or_schedule(optimizer)
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            return rate(scale.position(iterations_of(optimizer)))
        return plain.current_rate()

    def scaled(rate: Any) -> Any:
        factor = scale.at(iterations_of(optimizer))
        return rate if isinstance(factor, float) and factor == 1.0 else rate * factor

    def update_step(grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        plain.update_step(grads, trainable_variables, scaled(learning_rate))

    def apply_weight_decay(variables: Any) -> None:
        replace_rate_methods(optimizer, methods._replace(current_rate=lambda: scaled(base_rate())))
        try:
            plain.weight_decay(variables)
        finally:
            replace_rate_methods(optimizer, methods)

    object.__setattr__(optimizer, "_candle_plain_rate", plain)
    methods = RateMethods(base_rate, update_step, apply_weight_decay)
    replace_rate_methods(optimizer, methods)


def effective_learning_rate(optimizer: Any, scale: LearningRateScale) -> float:
    """Return the rate that a leaf optimizer would use in its next step."""
    return float(optimizer.learning_rate) * float(scale.at(int(iterations_of(optimizer).numpy())))
