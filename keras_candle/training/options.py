"""The options of data-parallel training, validated."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace

from keras_candle.data.input_data import Division
from keras_candle.errors import CandleError
from keras_candle.training.learning_rate import Scaling, scaling_factor
from keras_candle.training.precision import check_precision

# JSON object of arguments that override the program's own: `candle verify` gives N ranks the
# global batches of one rank with it.
VARIABLE = "KERAS_CANDLE_OPTIONS"
_BATCHES = ("replica", "global")


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

    def __post_init__(self) -> None:
        check_precision(self.precision)
        scaling_factor(self.learning_rate_scaling, 2)
        _check_choice("batch", self.batch, _BATCHES)
        _check_choice("compression", self.compression, (None, "fp16"))
        _check_choice("engine", self.engine, ("auto", "horovod", "mpi", "single"))
        if not isinstance(self.warmup_epochs, int | float) or self.warmup_epochs < 0:
            raise CandleError(
                f"warmup_epochs={self.warmup_epochs!r}, expected a number of epochs, 0 or more."
            )

        check_guard(self.guard)
        if not isinstance(self.exact_loss, bool):
            raise CandleError(f"exact_loss={self.exact_loss!r}, expected True or False.")

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
    given = os.environ.get(VARIABLE)
    if not given:
        return options
    names = [field.name for field in fields(ScalingOptions)]
    try:
        overrides = json.loads(given)
    except ValueError:
        overrides = None
    if not isinstance(overrides, dict):
        raise CandleError(
            f"{VARIABLE}={given!r} is not a JSON object, expected arguments of candle.scalable, "
            'for example {"batch": "global"}. Correct it, or unset it.'
        )
    unknown = sorted(set(overrides) - set(names))
    if unknown:
        raise CandleError(
            f"{VARIABLE} has unknown arguments: {', '.join(unknown)}; expected some of "
            f"{', '.join(names)}. "
            "Correct it, or unset it."
        )
    try:
        return replace(options, **overrides)
    except CandleError as cause:
        raise CandleError(f"{VARIABLE}={given!r}: {cause}") from cause


def _check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise CandleError(
            f"{name}={value!r} is unknown, expected one of {', '.join(map(repr, choices))}."
        )
