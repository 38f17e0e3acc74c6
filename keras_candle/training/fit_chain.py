"""The one ordered chain around a fit: which of its parts gets each event first.

A fit with a CandleCallback has several parts that follow it, each a `FitHook` at a `Place`. `ORDER`
is their whole order. `step_chain` keeps the row "around_step"; it and the guard also serve a scaled
model without a CandleCallback.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar


class Place(enum.Enum):
    """The parts of a fit.

    Attributes:
        RESUME: the position of the fit; restores a checkpoint and skips the steps that it has.
        GUARD: compares the ranks' states and lets no rank stop alone. Between the events of a step
            it is a callback, `user_callbacks.Agreement`, the last one of the list.
        TIMING: measures steps, phases and evaluations, and writes performance.json.
        WATCHDOG: reports progress to the process that looks for stalls.
        DISPLAY: shows progress on root.
        JOURNAL: logs epochs in the run's journal, from which the trackers are fed.
        CAPTURE: takes the checkpoints that are due by steps or epochs.
        STOP: agrees on stop requests, the walltime, and checkpoints that are due by time.
    """

    RESUME = "resume"
    GUARD = "guard"
    TIMING = "timing"
    WATCHDOG = "watchdog"
    DISPLAY = "display"
    JOURNAL = "journal"
    CAPTURE = "capture"
    STOP = "stop"


# The events in the order of a fit, and for each the parts in their order. "before" and "end" come
# before the callbacks' own hook, "begin" and "after" come after it.
_TABLE = {
    "before_fit": "capture resume",
    # Restoring is last: a signal or a stall within it is noticed.
    "begin_fit": "stop watchdog capture timing journal resume",
    "before_epoch": "timing display",
    # The state from which the epoch's order is drawn is captured when it has been restored.
    "begin_epoch": "resume capture watchdog timing",
    # The watchdog first, here and below: a hang in what follows is one of the new place.
    "before_step": "watchdog timing",
    "begin_step": "timing",
    # The outermost first: skipped steps are not measured, the guard's collectives are.
    "around_step": "resume timing guard",
    "end_step": "watchdog timing",
    # The display counts as time of callbacks. The position advances before it is reported and
    # saved, and a checkpoint that is due is taken before the program may stop.
    "after_step": "display timing resume watchdog capture stop",
    "leave_step": "timing",
    "before_evaluation": "timing",
    "before_evaluation_batch": "watchdog",
    "after_evaluation": "timing",
    "end_epoch": "watchdog timing",
    # As after a step, but the display is last: it shows the age of the epoch's checkpoint.
    "after_epoch": "timing resume watchdog journal capture stop display",
    "leave_epoch": "timing",
    # The watchdog first: the last write may take any time.
    "before_exit": "watchdog capture timing",
    # The stop is last: it ends the program when all is written.
    "after_fit": "watchdog capture timing journal stop",
    # Capture is last: it waits for a write when all else is as before the fit.
    "close": "stop watchdog timing display resume capture",
}
ORDER = {event: tuple(map(Place, row.split())) for event, row in _TABLE.items()}


class FitHook:
    """A part of a fit; each event does nothing unless a subclass replaces it.

    Attributes:
        place: its place in `ORDER`.
    """

    place: ClassVar[Place]

    def before_fit(self, callbacks: Sequence[Any]) -> None:
        """Called before the callbacks' on_train_begin.

        Args:
            callbacks: all callbacks of the fit.
        """

    def begin_fit(self) -> None:
        """Called after the callbacks' on_train_begin."""

    def before_epoch(self, epoch: int) -> None:
        """Called before the callbacks' on_epoch_begin."""

    def begin_epoch(self, epoch: int) -> None:
        """Called after the callbacks' on_epoch_begin."""

    def before_step(self) -> None:
        """Called before the callbacks' on_train_batch_begin."""

    def begin_step(self) -> None:
        """Called after the callbacks' on_train_batch_begin."""

    def end_step(self) -> None:
        """Called before the callbacks' on_train_batch_end."""

    def after_step(self, done: int, logs: Any) -> None:
        """Called after the callbacks' on_train_batch_end.

        Args:
            done: completed steps of the epoch.
            logs: this rank's metrics so far, still on the device.
        """

    def leave_step(self) -> None:
        """Called after `after_step` of all parts."""

    def before_evaluation(self) -> None:
        """Called before the callbacks' on_test_begin."""

    def before_evaluation_batch(self) -> None:
        """Called before the callbacks' on_test_batch_begin."""

    def after_evaluation(self) -> None:
        """Called after the callbacks' on_test_end."""

    def end_epoch(self) -> None:
        """Called before the callbacks' on_epoch_end."""

    def after_epoch(self, epoch: int, logs: dict[str, Any], values: dict[str, Any]) -> None:
        """Called after the callbacks' on_epoch_end.

        Args:
            epoch: the number of the epoch, from 0.
            logs: the metrics of all ranks, with all that callbacks added.
            values: the numbers, texts and None of `logs`.
        """

    def leave_epoch(self) -> None:
        """Called after `after_epoch` of all parts."""

    def before_exit(self) -> None:
        """Called when a stop request ends the program within the fit, after the checkpoint."""

    def after_fit(self) -> None:
        """Called after the callbacks' on_train_end."""

    def close(self) -> None:
        """Called when the fit has returned or failed."""


class FitChain:
    """The hooks of one fit in the order of `ORDER`.

    Args:
        hooks: at most one for each place.

    Raises:
        TypeError: for a hook whose place is missing in the row of one of its events, or is in the
            row of an event that it does not have.
    """

    def __init__(self, hooks: Iterable[FitHook]) -> None:
        self._hooks = {each.place: each for each in hooks}
        events = [event for event in ORDER if hasattr(FitHook, event)]
        for hook in self._hooks.values():
            for event in events:
                has_event = getattr(type(hook), event) is not getattr(FitHook, event)
                if has_event is not (hook.place in ORDER[event]):
                    raise TypeError(f"{type(hook).__name__}.{event} and its row in ORDER differ")
        self._calls: dict[str, list[Callable[..., None]]] = {
            event: [getattr(self._hooks[each], event) for each in ORDER[event] if each in self]
            for event in events
        }

    def __contains__(self, place: Place) -> bool:
        return place in self._hooks

    def call(self, event: str, *arguments: Any) -> None:
        """Call an event's method of all hooks that have it, in order; an error ends the row."""
        for each in self._calls[event]:
            each(*arguments)
