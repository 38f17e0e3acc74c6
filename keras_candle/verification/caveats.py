"""Find properties of a fit that may keep it from resuming exactly, before it begins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import keras

from keras_candle.checkpoints.plain import is_plain
from keras_candle.keras_private.models import is_keras_class

_OF_KERAS = ("_model", "params", "validation_data", "model")


def find_caveats(callback: Any, given: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the properties of a fit that may keep it from resuming exactly.

    Args:
        callback: its CandleCallback.
        given: the arguments of `fit`.

    Returns:
        (kind, what) for each: a key of `resume_causes.CAUSES`, and the object that has it.
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
