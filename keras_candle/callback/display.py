"""Root's progress display of a training: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TextIO

from keras_candle.training.fit_chain import FitHook, Place

_BAR_EVERY_S = 0.2
ONE_LINE_AN_EPOCH = 2  # Keras's verbose=2


class Display(FitHook):
    """Shows the progress and speed of a fit, and the age of its newest checkpoint.

    Args:
        epochs: number of epochs of the fit.
        steps: steps of an epoch; None where the data do not know.
        verbose: argument of `fit`: 0, "auto", 1 or 2.
        samples: returns the rows that all ranks have taken so far.
        checkpoint_age_s: returns the seconds since the newest checkpoint; None before the first.
        line_s: seconds between two lines where there is no terminal.
        stream: the output, `sys.stdout` by default.
        clock: returns seconds since any fixed moment.
    """

    place = Place.DISPLAY

    def __init__(  # noqa: PLR0913 - independent of each other
        self,
        epochs: int,
        steps: int | None,
        verbose: int | str,
        *,
        samples: Callable[[], float],
        checkpoint_age_s: Callable[[], float | None],
        line_s: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epochs, self._steps, self._verbose = epochs, steps, verbose
        self._samples, self._checkpoint_age_s, self._clock = samples, checkpoint_age_s, clock
        self._stream = sys.stdout if stream is None else stream
        self._bar = _Bar(self._stream) if verbose in (1, "auto") and _is_tty(self._stream) else None
        self._every_s = _BAR_EVERY_S if self._bar else line_s
        self._epoch = self._done = self._steps_taken = 0
        self._began_s = self._epoch_s = self._shown_s = clock()
        self._epoch_samples = 0.0

    def before_epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        self._epoch, self._done = epoch, 0
        self._epoch_s, self._epoch_samples = self._clock(), self._samples()

    def after_step(self, done: int, logs: Mapping[str, Any] | None) -> None:
        """Show progress within an epoch.

        Args:
            done: completed steps of the epoch.
            logs: root's metrics so far, still on the device.
        """
        new, self._done = max(0, done - self._done), done
        if not self._steps_taken:  # later steps are faster than the first, which compiles
            self._began_s = self._clock()
        self._steps_taken += new
        if self._verbose in (0, ONE_LINE_AN_EPOCH):
            return
        now_s = self._clock()
        if now_s - self._shown_s < self._every_s:
            return
        self._shown_s = now_s
        parts = [self._place(), self._rate(), self._left(), self._age(), metrics_text(logs or {})]
        self._show(parts, over=False)

    def after_epoch(self, epoch: int, logs: dict[str, Any], values: dict[str, Any]) -> None:  # noqa: ARG002
        """Show a completed epoch with the metrics of all ranks."""
        if self._steps is None:
            self._steps = self._done
        if self._verbose == 0:
            return
        took = duration(self._clock() - self._epoch_s)
        parts = [self._place(), took, self._rate(), self._age(), metrics_text(logs)]
        self._show(parts, over=True)
        self._shown_s = self._clock()

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar:
            self._bar.close()

    def _show(self, parts: list[str], *, over: bool) -> None:
        text = "  ".join(filter(None, parts))
        if self._bar:
            share = self._done / self._steps if self._steps else None
            self._bar.show(text, share, over=over)
            return
        with suppress(OSError, ValueError):  # the output is closed
            print(text, file=self._stream, flush=True)

    def _place(self) -> str:
        steps = f"{self._done}" if self._steps is None else f"{self._done}/{self._steps}"
        return f"epoch {self._epoch + 1}/{self._epochs}  step {steps}"

    def _rate(self) -> str:
        passed_s = self._clock() - self._epoch_s
        samples = self._samples() - self._epoch_samples
        return f"{samples / passed_s:,.0f} samples/s" if samples > 0 and passed_s > 0 else ""

    def _left(self) -> str:
        taken = self._steps_taken - 1
        if self._steps is None or taken < 1:
            return ""
        left = (self._epochs - self._epoch) * self._steps - self._done
        return f"{duration(left * (self._clock() - self._began_s) / taken)} left"

    def _age(self) -> str:
        age_s = self._checkpoint_age_s()
        return "" if age_s is None else f"checkpoint {duration(age_s)} ago"


class _Bar:
    """A line on a terminal that is redrawn."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(file=stream), auto_refresh=False, transient=True)

    def show(self, text: str, share: float | None, *, over: bool) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if over:
            self._live.stop()
            self._live.console.print(Text(text))
            return
        line = Table.grid(padding=(0, 1))
        line.add_column(no_wrap=True)
        line.add_column(no_wrap=True, overflow="ellipsis")
        line.add_row(ProgressBar(1.0, share or 0.0, width=16, pulse=share is None), Text(text))
        if not self._live.is_started:
            self._live.start()
        self._live.update(line, refresh=True)

    def close(self) -> None:
        self._live.stop()


def _is_tty(stream: TextIO) -> bool:
    with suppress(AttributeError, ValueError):
        return stream.isatty()
    return False


def metrics_text(logs: Mapping[str, Any]) -> str:
    """Format the numbers of a training's logs.

    Example:
        >>> metrics_text({"loss": 0.25, "val_loss": 0.00001234, "grid": [1, 2]})
        'loss 0.2500  val_loss 1.2340e-05'
    """
    parts = []
    for name, value in logs.items():
        with suppress(TypeError, ValueError, OverflowError):
            found = float(value)
            small = found and abs(found) < 1e-3 and math.isfinite(found)
            parts.append(f"{name} {found:.4e}" if small else f"{name} {found:.4f}")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Format a duration.

    Example:
        >>> duration(8.4), duration(75), duration(7384)
        ('8s', '1:15', '2:03:04')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
