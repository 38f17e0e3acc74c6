"""The checkpoint options of CandleCallback, validated."""

from __future__ import annotations

from dataclasses import dataclass

from keras_candle.errors import CandleError

MODES = ("auto", "min", "max")
ON_ERROR = ("raise", "warn")


@dataclass(frozen=True)
class Checkpoint:
    """When checkpoints are taken and which are kept.

    Args:
        every_epochs: take one after this many epochs; None for not by epochs. The end of a
            training always has one.
        every_steps: take one after this many steps.
        every_seconds: take one after this many seconds, at the end of the step under way.
        keep_last: number of newest checkpoints to keep.
        keep_best: number of checkpoints with the best `monitor` to keep as well.
        monitor: a name in the logs of an epoch, the same value on all ranks.
        mode: "min", "max", or "auto": from the model's metric of that name, else from the name.
            Where neither decides, "min", with one warning.
        keep_every: keep the checkpoints whose step it divides as well.
        on_error: "raise" stops the training when a checkpoint cannot be written, "warn" prints
            the error and continues.

    Raises:
        CandleError: for an invalid value.

    Example:
        >>> Checkpoint(every_seconds=600, keep_last=2).every_epochs
        1
    """

    every_epochs: int | None = 1
    every_steps: int | None = None
    every_seconds: float | None = None
    keep_last: int = 3
    keep_best: int = 1
    monitor: str = "val_loss"
    mode: str = "auto"
    keep_every: int | None = None
    on_error: str = "raise"

    def __post_init__(self) -> None:
        for name, least in (("keep_last", 1), ("keep_best", 0)):
            _check(name, getattr(self, name), isinstance(getattr(self, name), int), least)
        for name in ("every_epochs", "every_steps", "keep_every"):
            value = getattr(self, name)
            _check(name, value, value is None or isinstance(value, int), 1)
        seconds = self.every_seconds
        if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
            raise CandleError(f"every_seconds={seconds!r}, expected a number above 0, or None.")
        check_choice("mode", self.mode, MODES)
        check_choice("on_error", self.on_error, ON_ERROR)

    def due_by_steps(self, before: int, now: int) -> bool:
        """Whether a checkpoint is due when the steps go from one number to another.

        Example:
            >>> Checkpoint(every_steps=10).due_by_steps(8, 12)
            True
        """
        every = self.every_steps
        return every is not None and now // every > before // every

    def due_by_epochs(self, epochs: int) -> bool:
        """Whether a checkpoint is due after this number of epochs."""
        return self.every_epochs is not None and epochs % self.every_epochs == 0


@dataclass(frozen=True)
class Intervals:
    """Intervals of a training's periodic actions, in seconds.

    Only the root's clock counts; its decisions are sent to all ranks.

    Attributes:
        consensus_s: about how often the ranks exchange stop and checkpoint requests.
        record_s: how often `performance.json` is written before the end.
        line_s: how often a line of progress is printed where the output is not a terminal.
    """

    consensus_s: float = 0.2
    record_s: float = 10.0
    line_s: float = 10.0


@dataclass(frozen=True)
class SaveLimits:
    """Time limits of a training, see `CandleCallback`.

    Raises:
        CandleError: for an invalid value.
    """

    walltime: float | str | None
    stall_timeout: float | str | None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
            if value is not None and value != "auto" and not number:
                raise CandleError(
                    f"{name}={value!r}, expected a number of seconds above 0, 'auto', or None."
                )


def _check(name: str, value: object, right: bool, least: int) -> None:
    if not right or (isinstance(value, int) and (isinstance(value, bool) or value < least)):
        raise CandleError(f"{name}={value!r}, expected a number, {least} or more.")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise an error unless a value is one of the choices.

    Raises:
        CandleError: with the value and the choices.
    """
    if value not in choices:
        raise CandleError(f"{name}={value!r}, expected one of {', '.join(map(repr, choices))}.")
