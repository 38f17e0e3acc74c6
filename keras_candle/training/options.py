"""What a user may ask of data-parallel training, checked."""

from __future__ import annotations

from dataclasses import dataclass

from keras_candle.errors import CandleError
from keras_candle.training.learning_rate import Scaling, scaling_factor
from keras_candle.training.precision import check_precision


@dataclass(frozen=True)
class Options:
    """The arguments of `@candle.scalable`, see there."""

    precision: str | None = None
    learning_rate_scaling: Scaling = "linear"
    warmup_epochs: float = 0
    batch: str = "replica"
    sync_batch_norm: bool = False
    compression: str | None = None
    shard: bool = True
    engine: str = "auto"

    def __post_init__(self) -> None:
        check_precision(self.precision)
        scaling_factor(self.learning_rate_scaling, 2)
        _check_choice("batch", self.batch, ("replica", "global"))
        _check_choice("compression", self.compression, (None, "fp16"))
        _check_choice("engine", self.engine, ("auto", "horovod", "mpi", "single"))
        if not isinstance(self.warmup_epochs, int | float) or self.warmup_epochs < 0:
            raise CandleError(
                f"warmup_epochs={self.warmup_epochs!r}, expected a number of epochs, 0 or more."
            )

    def batch_growth(self, size: int) -> int:
        """How many times as large the global batch is on `size` ranks as on one."""
        return size if self.batch == "replica" else 1


def _check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise CandleError(
            f"{name}={value!r} is unknown, expected one of {', '.join(map(repr, choices))}."
        )
