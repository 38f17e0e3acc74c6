"""Refuse models and environments that cannot be trained on several ranks."""

from __future__ import annotations

from typing import Any

import keras

from keras_candle.errors import CandleError, EngineError
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
    """Refuse an unsupported Keras backend, Keras version or tf.distribute strategy.

    Raises:
        CandleError: when the installed Keras lacks a private name that keras_candle uses.
        EngineError: when Keras does not run on TensorFlow, or tf.distribute divides the work.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise EngineError(
            f"Keras runs on {backend}; on several ranks keras_candle trains with TensorFlow. "
            "Set KERAS_BACKEND=tensorflow."
        )
    check_private_names()
    if model.distribute_strategy.num_replicas_in_sync > 1:
        raise EngineError(
            "The model was built inside a tf.distribute strategy, which would divide the work a "
            "second time. Build it outside of the strategy: keras_candle divides the work."
        )
