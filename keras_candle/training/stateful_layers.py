"""Stateful layers: row i of a batch continues where row i of the previous batch ended."""

from __future__ import annotations

from typing import Any

from keras_candle.errors import CandleError
from keras_candle.keras_private.models import layers_of


def stateful_layers(model: Any) -> list[Any]:
    """Return the stateful layers of a model, however deeply nested."""
    return [each for each in layers_of(model) if getattr(each, "stateful", False) is True]


def sequence_state(model: Any) -> set[int]:
    """Return the ids of the weights that hold the final state of a rank's last batch."""
    return {id(each) for layer in stateful_layers(model) for each in layer.non_trainable_weights}


def check_stateless(model: Any, size: int) -> None:
    """Refuse a stateful layer where the ranks divide the batches.

    Raises:
        CandleError: naming the layer and the ways to train it.
    """
    for layer in stateful_layers(model):
        raise CandleError(
            f"Layer {layer.name!r} ({type(layer).__name__}) is stateful: row i of a batch "
            f"continues where row i of the previous batch ended, and {size} ranks that divide the "
            "batches break these sequences. Give each rank whole sequences of its own with "
            "candle.scalable(shard=False), in batches of the model's batch size; or train with "
            "stateful=False; or on one rank."
        )
