"""Refuse models and environments that cannot be trained on several ranks."""

from __future__ import annotations

from typing import Any

from keras_candle import backend
from keras_candle.errors import CandleError
from keras_candle.keras_private.contract import check_private_names
from keras_candle.training.losses import check_reductions


def check_trainable(model: Any) -> None:
    """Refuse a model that cannot be trained on several ranks.

    Raises:
        CandleError: when it is not compiled, or its loss's gradient depends on the number of ranks.
    """
    if not model.compiled:
        raise CandleError(
            "The model is not compiled: call model.compile(...) in the function that builds it, "
            "or before fit."
        )
    check_reductions(model)


def check_environment(model: Any) -> None:
    """Refuse an unsupported Keras backend, Keras version, or a model that Keras itself divides.

    Raises:
        CandleError: when the installed Keras lacks a private name that keras_candle uses.
        EngineError: when Keras runs on another backend than ours, or divides the work itself.
    """
    current = backend.current()
    check_private_names()
    current.check(model)
