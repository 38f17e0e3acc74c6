"""Checkpoints of one fit: the options, when one is due, which are kept, and their writing.

All ranks take a checkpoint together; root writes it asynchronously.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras_candle.checkpoints.folder import Keep
from keras_candle.checkpoints.keras_state import read_assets
from keras_candle.checkpoints.writing import Contents, HostSnapshot, Writer, architecture_of
from keras_candle.errors import CandleError, CheckpointError
from keras_candle.launcher_messages import notify_checkpoint
from keras_candle.metric_directions import direction_of
from keras_candle.resume.model_state import layouts_of
from keras_candle.resume.run_session import RunSession
from keras_candle.training.gradients import outermost_optimizers
from keras_candle.training.metrics import direction_in_model
from keras_candle.training.shared_state import shared_variables

_MOST_NAMES = 20
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
    walltime_reserve_s: float | None = None

    def __post_init__(self) -> None:
        reserve_s = self.walltime_reserve_s
        is_number = isinstance(reserve_s, int | float) and not isinstance(reserve_s, bool)
        if reserve_s is not None and not (is_number and reserve_s >= 0):
            raise CandleError(
                f"walltime_reserve_s={reserve_s!r}, expected a number of seconds, or None."
            )
        for name in ("walltime", "stall_timeout"):
            value = getattr(self, name)
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


class CheckpointSchedule:
    """Writes a fit's checkpoints and removes those that are not kept. On root.

    Args:
        run: the run directory's session.
        options: which checkpoints to keep.
        model: the trained model.

    Attributes:
        best: (value, step) of the best checkpoints that are kept, the best first.
        longest_s: the longest time that a checkpoint took until it was on the disk.
    """

    def __init__(self, run: RunSession, options: Checkpoint, model: Any) -> None:
        self._run, self._options, self._model = run, options, model
        self._writer = Writer()
        self._snapshots: tuple[HostSnapshot, HostSnapshot | None] | None = None
        self._of: list[int] = []
        self._architecture, self._has_assets = "", False
        self.best: list[tuple[float, int]] = []
        self.longest_s = 0.0
        self._warned_of_monitor = self._warned_of_mode = False

    def improves(self, logs: Mapping[str, Any]) -> bool:
        """Whether an epoch's value of `monitor` is among the best."""
        options = self._options
        value = self.monitored(logs)
        if value is None or not options.keep_best:
            if value is None and options.keep_best:
                self._warn_of_monitor(logs)
            return False
        full = len(self.best) >= options.keep_best
        return not full or self._better(value, self.best[-1][0])

    def monitored(self, logs: Mapping[str, Any]) -> float | None:
        """Return an epoch's value of `monitor`; None where it is missing, no number, or NaN."""
        value = logs.get(self._options.monitor)
        is_nan = isinstance(value, float) and math.isnan(value)
        return value if isinstance(value, int | float) and not is_nan else None

    def _warn_of_monitor(self, logs: Mapping[str, Any]) -> None:
        options = self._options
        asked = (options.monitor, options.keep_best) != (Checkpoint.monitor, 1)
        if not asked or self._warned_of_monitor or self.best:
            return
        self._warned_of_monitor = True
        numbers = sorted(name for name, each in logs.items() if isinstance(each, int | float))
        known = ", ".join(numbers[:_MOST_NAMES]) + ", ..." * (len(numbers) > _MOST_NAMES)
        found = f"{logs[options.monitor]!r:.80}" if options.monitor in logs else "not"
        self._run.engine.print_on_root(
            f"Checkpoint(monitor={options.monitor!r}) is {found} in the epoch's logs, so the epoch "
            f"is not compared with the best ones. Where no epoch has it, use one of {known}."
        )

    def _better(self, value: float, reference: float) -> bool:
        return value < reference if self._smaller_is_better else value > reference

    @property
    def _smaller_is_better(self) -> bool:
        monitor, mode = self._options.monitor, self._options.mode
        if mode == "auto":
            mode = direction_in_model(self._model, monitor) or direction_of(monitor) or ""
        if not mode and not self._warned_of_mode:
            self._warned_of_mode = True
            self._run.engine.print_on_root(
                f"cannot infer whether to minimise or maximise monitor={monitor!r}: its smallest "
                "value is taken for the best. Set Checkpoint(mode='min') or mode='max'."
            )
        return mode != "max"

    def record_best(self, value: float, step: int) -> None:
        """Record a checkpoint's value of `monitor`."""
        self.best = [each for each in self.best if each[1] != step]
        self.best.append((value, step))
        self.best.sort(key=lambda each: each[0], reverse=not self._smaller_is_better)
        del self.best[self._options.keep_best :]

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        of_ranks: list[dict[str, Any]],
        always: list[int],
    ) -> None:
        """Copy the model's state and write it asynchronously.

        Args:
            step: step of the run.
            state: state that all ranks share.
            of_ranks: per-rank state.
            always: steps whose checkpoints are always kept.

        Raises:
            CheckpointError: when the previous one could not be written, with
                `on_error="raise"`.
        """
        self.wait()
        began_s = time.monotonic()
        weights, variables = self._snapshots_of_model()
        weights.take()
        if variables is not None:
            variables.take()
        facts = {
            "fit": state["fit"],
            "epoch": state["epoch"],
            "in_epoch": state["in_epoch"],
            "ranks": len(of_ranks),
            "chain": state["chain"],
            "monitor": dict(state["monitor"]),
        }
        contents = Contents(
            step,
            weights,
            state,
            of_ranks,
            variables,
            self._architecture,
            read_assets(self._model) or {} if self._has_assets else {},
            facts,
        )
        best = [each for _, each in self.best]
        self._writer.start(lambda: self._write(contents, best, always, began_s))

    def prepare(self) -> None:
        """Allocate the memory for the first checkpoint during the first steps."""
        if self._model.built:
            self._writer.start(self._touch)

    def _touch(self) -> None:
        for each in self._snapshots_of_model():
            if each is not None:
                each.touch()

    def _snapshots_of_model(self) -> tuple[HostSnapshot, HostSnapshot | None]:
        variables = [
            id(each) for each in shared_variables(self._model, outermost_optimizers(self._model))
        ]
        fits = variables == self._of and self._snapshots and self._snapshots[0].layout.fits()
        if self._snapshots is None or not fits:
            weights, rest = layouts_of(self._model)
            self._snapshots = HostSnapshot(weights), None if rest is None else HostSnapshot(rest)
            self._of, self._has_assets = variables, read_assets(self._model) is not None
            self._architecture = architecture_of(self._model)
        return self._snapshots

    def _write(
        self, contents: Contents, best: list[int], always: list[int], began_s: float
    ) -> None:
        folder = self._run.folder
        with folder.new(contents.step) as path:
            contents.write(path)
        passed_s = time.monotonic() - began_s
        notify_checkpoint(contents.step)
        try:
            if best and best[0] == contents.step:
                folder.point_to_best(contents.step)
            keep = Keep(self._options.keep_last, self._options.keep_every)
            removed = folder.prune(keep, [*best, *always])
        except OSError as cause:
            raise CheckpointError(
                f"Cannot remove old checkpoints or set links in {folder.path} ({cause})."
            ) from cause
        self.longest_s = max(self.longest_s, time.monotonic() - began_s)
        self._run.log_event(
            "checkpoint",
            step=contents.step,
            epoch=contents.state["epoch"],
            in_epoch=contents.state["in_epoch"],
            seconds=round(passed_s, 3),
            removed=removed,
        )

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._writer.busy

    def size_bytes(self) -> int:
        """Return the approximate size of a checkpoint."""
        variables = shared_variables(self._model, outermost_optimizers(self._model))
        return sum(4 * math.prod(each.shape) for each in variables)

    @property
    def failed(self) -> bool:
        """Whether an asynchronous write failed."""
        return self._writer.failed

    def abandon(self) -> None:
        """Wait for the write under way and ignore its error, since the fit has ended already."""
        with contextlib.suppress(CheckpointError):
            self._writer.wait()

    def check(self) -> None:
        """Raise or print the error of an asynchronous write."""
        with self._as_asked():
            self._writer.check()

    def wait(self) -> None:
        """Wait until all is written; raise or print the error."""
        with self._as_asked():
            self._writer.wait()

    @contextlib.contextmanager
    def _as_asked(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError as error:
            if self._options.on_error == "raise":
                raise
            self._run.engine.print_on_root(f"{error} The training continues without it.")
