"""What cannot be trained on several ranks, and what to do instead."""

from __future__ import annotations

from typing import Any

import keras

from keras_candle.errors import CandleError, EngineError
from keras_candle.training.keras_names import check_private_names

# The reductions whose gradient, averaged over the ranks by rows, is that of the global batch.
_MEAN_REDUCTIONS = ("sum_over_batch_size", "mean")


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
    for loss in keras.tree.flatten(model.loss):
        reduction = getattr(loss, "reduction", _MEAN_REDUCTIONS[0])
        if reduction not in _MEAN_REDUCTIONS:
            raise CandleError(
                f"The loss {loss.name} has reduction={reduction!r}, whose gradient would depend "
                "on the number of ranks. Use reduction='sum_over_batch_size', and multiply the "
                "learning rate by the rows of a batch to keep the size of its steps."
            )


def check_environment(model: Any) -> None:
    """Refuse a Keras backend, a Keras version or a model that is made for something else.

    Raises:
        CandleError: when the installed Keras lacks a name that we lean on.
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
            "second time. Build it outside: dividing the work is keras_candle's part."
        )
