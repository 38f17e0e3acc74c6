"""Log the fits that have a CandleCallback, with their steps, and kill the rank on request."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_candle.checkpoints.manifest import digest
from keras_candle.checkpoints.plain import is_plain
from keras_candle.cluster import launchers
from keras_candle.keras_private.models import is_keras_class
from keras_candle.resume import run_session as runs
from keras_candle.resume.run_session import RunSession, directory_of, observers
from keras_candle.training.gradients import outermost_optimizers
from keras_candle.verification.event_log import END, FIT, RANK, STEP, EventLog
from keras_candle.verification.resume_check import Killer, RunCopies


class FitRecorder:
    """Records the fits of this process in an event log.

    Args:
        event_log: the log.
        places: resolves run directories to their copies.
        kill: the rank, run directory, step and delay of a kill; None for no kill.
        killer: kills this process.
    """

    def __init__(
        self,
        event_log: EventLog,
        places: RunCopies,
        kill: dict[str, Any] | None,
        killer: Killer | None,
    ) -> None:
        launcher = launchers.detect()
        rank = int(os.environ.get(launcher.rank, "0")) if launcher else 0
        event_log.append(RANK, rank=rank)
        self._event_log, self._places, self._process = event_log, places, os.getpid()
        self._kill = kill if kill and kill["rank"] == rank else None
        self._killer = killer

    def install(self, callback_module: Any) -> None:
        """Record every fit with a CandleCallback from now on.

        Args:
            callback_module: the module that defines CandleCallback, just imported.
        """
        callback = callback_module.CandleCallback
        callback.run_fit = _around(callback.run_fit, self.fit)
        observers.append(self.step)

    def fit(self, plain: Callable[..., Any], callback: Any, model: Any, given: Any) -> Any:
        """Run one fit, and record its start and end."""
        name, path = self._place_of(directory_of(callback.run_directory, given["callbacks"]))
        number = len(runs.ends.get(path, []))
        self._log(
            FIT,
            directory=name,
            path=str(path),
            number=number,
            cadence=dataclasses.asdict(callback.checkpoint),
            remarks=find_caveats(callback, given),
        )
        history = plain()
        optimizers = [each for one in outermost_optimizers(model) for each in one.variables]
        self._log(
            END,
            directory=name,
            number=number,
            variables=[[each.path, _digest(each)] for each in (*model.weights, *optimizers)],
            history=keras.tree.map_structure(_number, getattr(history, "history", {})),
        )
        return history

    def step(self, run: RunSession, before: int, now: int) -> None:
        """Log a step, and schedule the kill if it is due after this step."""
        name = self._places.name_of(run.directory.path)
        self._log(STEP, directory=name, before=before, now=now)
        kill = self._kill
        if kill and self._killer and (name == kill["directory"]) and now >= kill["step"]:
            self._kill = None
            self._killer.kill_in(kill["delay_s"])

    def _place_of(self, path: Any) -> tuple[str, Any]:
        return self._places.name_of(path), self._places.resolve(path)

    def _log(self, kind: str, **facts: Any) -> None:
        # A process that the program forked inherits this, but is not a rank.
        if os.getpid() == self._process:
            self._event_log.append(kind, **facts)


def _around(plain: Callable[..., Any], watch: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def watched(callback: Any, model: Any, given: Any, fit: Any) -> Any:
        return watch(lambda: plain(callback, model, given, fit), callback, model, given)

    return watched


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int | float | np.generic) else repr(value)


def _digest(variable: Any) -> str:
    value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
    return digest(value.reshape(-1).view(np.uint8))


_OF_KERAS = ("_model", "params", "validation_data", "model")


def find_caveats(callback: Any, given: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the properties of a fit that may keep it from resuming exactly.

    Args:
        callback: its CandleCallback.
        given: the arguments of `fit`.

    Returns:
        (kind, what) for each: a key of `compare_resumes.CAUSES`, and the object that has it.
    """
    caveats = [("never", "")] if callback.resume == "never" else []
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(given["x"], tensorflow.data.Dataset):
        caveats.append(("dataset", type(given["x"]).__name__.lstrip("_")))
    kept = getattr(given["callbacks"], "callbacks", None)
    if kept is None:
        kept = keras.tree.flatten(given["callbacks"])
    return [*caveats, *(caveat for each in kept for caveat in _of_callback(each))]


def _of_callback(callback: Any) -> Iterator[tuple[str, str]]:
    kind = type(callback)
    if kind.__module__.startswith("keras_candle.") or _has_protocol(callback):
        return
    if isinstance(callback, keras.callbacks.LambdaCallback | keras.callbacks.LearningRateScheduler):
        yield "function", kind.__name__
        return
    if is_keras_class(kind):
        return
    attributes = {name: each for name, each in vars(callback).items() if name not in _OF_KERAS}
    unsaved = sorted(name for name, each in attributes.items() if not is_plain(each))
    if unsaved:
        yield "unsaved", f"{kind.__qualname__} ({', '.join(unsaved)})"
    elif not attributes:
        yield "stateless", kind.__qualname__


def _has_protocol(callback: Any) -> bool:
    return hasattr(callback, "get_state") and hasattr(callback, "set_state")
