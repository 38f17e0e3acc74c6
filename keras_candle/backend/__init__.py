"""Everything that differs between Keras's backends; `current()` returns the one that Keras uses.

Training and data are written with `keras.ops`, NumPy and the methods of `Backend`.
"""

from __future__ import annotations

import importlib

import keras

from keras_candle.backend.base import Backend, Shard
from keras_candle.errors import EngineError

__all__ = ["Backend", "Shard", "current"]

# Keras's name -> module and class, imported when first used.
BACKENDS = {"tensorflow": ("keras_candle.backend.tensorflow", "TensorFlowBackend")}

_made: dict[str, Backend] = {}


def current() -> Backend:
    """Return the backend that Keras uses.

    Raises:
        EngineError: when keras_candle does not train on it.
    """
    name = keras.backend.backend()
    if name not in BACKENDS:
        raise EngineError(
            f"Keras runs on {name}; on several ranks keras_candle trains with TensorFlow. "
            "Set KERAS_BACKEND=tensorflow."
        )
    if name not in _made:
        module, kind = BACKENDS[name]
        _made[name] = getattr(importlib.import_module(module), kind)()
    return _made[name]
