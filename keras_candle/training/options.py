"""The options of data-parallel training, validated without Keras: it is imported for nothing."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from keras_candle.data.batch_assignment import Division
from keras_candle.errors import CandleError
from keras_candle.launcher_messages import OPTIONS

_BATCHES = ("replica", "global")
_PRECISIONS = (None, "float32", "mixed_float16", "mixed_bfloat16", "auto")

Scaling = str | Callable[[int], float] | None

# name -> factor for a global batch that is `size` times as large
RULES: dict[str, Callable[[int], float]] = {
    # Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.1
    "linear": float,
    # Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", section 5
    "sqrt": math.sqrt,
}


def scaling_factor(scaling: Scaling, size: int) -> float:
    """Return the factor on the base learning rate.

    Args:
        scaling: "linear", "sqrt", None, or a function of `size`.
        size: how many times as large the global batch is as on one rank.

    Returns:
        The factor, 1.0 for None.

    Raises:
        CandleError: when the rule is unknown or its result is not a positive number.

    Example:
        >>> scaling_factor("linear", 8), scaling_factor("sqrt", 4), scaling_factor(None, 8)
        (8.0, 2.0, 1.0)
    """
    if scaling is None:
        return 1.0
    rule = scaling if callable(scaling) else RULES.get(scaling)
    if rule is None:
        raise CandleError(
            f"learning_rate_scaling={scaling!r} is unknown, expected 'linear', 'sqrt', None or a "
            "function of the number of ranks."
        )
    factor = rule(size)
    if not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise CandleError(
            f"learning_rate_scaling returned the factor {factor!r} for {size} ranks, "
            "expected a positive number."
        )
    return float(factor)


@dataclass(frozen=True)
class ScalingOptions:
    """The arguments of `@candle.scalable`, documented there."""

    precision: str | None = None
    learning_rate_scaling: Scaling = "linear"
    warmup_epochs: float = 0
    batch: str = "replica"
    sync_batch_norm: bool = False
    compression: str | None = None
    shard: bool = True
    engine: str = "auto"
    shard_predict: bool = False
    guard: bool | int = True
    exact_loss: bool = False
    sum_embedding_slices: bool = False

    def __post_init__(self) -> None:
        _check_choice("precision", self.precision, _PRECISIONS)
        scaling_factor(self.learning_rate_scaling, 2)
        _check_choice("batch", self.batch, _BATCHES)
        _check_choice("compression", self.compression, (None, "fp16"))
        _check_choice("engine", self.engine, ("auto", "horovod", "mpi", "single"))
        if not isinstance(self.warmup_epochs, int | float) or self.warmup_epochs < 0:
            raise CandleError(
                f"warmup_epochs={self.warmup_epochs!r}, expected a number of epochs, 0 or more."
            )

        check_guard(self.guard)
        _check_bool("exact_loss", self.exact_loss)
        _check_bool("sum_embedding_slices", self.sum_embedding_slices)

    @property
    def division(self) -> Division:
        """How the ranks divide data and batches."""
        return Division(self.batch, self.shard)


def check_guard(guard: bool | int) -> bool | int:
    """Return the guard if it is valid.

    Raises:
        CandleError: if it is neither a bool nor a number of steps.
    """
    if not isinstance(guard, int) or guard < 0:
        raise CandleError(f"guard={guard!r}, expected True, False or a number of steps, 1 or more.")
    return guard


def with_overrides(options: ScalingOptions) -> ScalingOptions:
    """Return the options, overridden by the environment variable KERAS_CANDLE_OPTIONS.

    Args:
        options: the program's options.

    Returns:
        `options` itself where the variable is not set.

    Raises:
        CandleError: when the variable is not a JSON object of arguments of `candle.scalable`, or a
            value is unknown.
    """
    given = os.environ.get(OPTIONS)
    if not given:
        return options
    names = [field.name for field in fields(ScalingOptions)]
    try:
        overrides = json.loads(given)
    except ValueError:
        overrides = None
    if not isinstance(overrides, dict):
        raise CandleError(
            f"{OPTIONS}={given!r} is not a JSON object, expected arguments of candle.scalable, "
            'for example {"batch": "global"}. Correct it, or unset it.'
        )
    unknown = sorted(set(overrides) - set(names))
    if unknown:
        raise CandleError(
            f"{OPTIONS} has unknown arguments: {', '.join(unknown)}; expected some of "
            f"{', '.join(names)}. "
            "Correct it, or unset it."
        )
    try:
        return replace(options, **overrides)
    except CandleError as cause:
        raise CandleError(f"{OPTIONS}={given!r}: {cause}") from cause


def _check_bool(name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise CandleError(f"{name}={value!r}, expected True or False.")


def _check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise CandleError(
            f"{name}={value!r} is unknown, expected one of {', '.join(map(repr, choices))}."
        )
