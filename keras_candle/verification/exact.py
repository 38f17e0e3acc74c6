"""Turn off dropout and noise in a model, for `candle verify --exact`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keras_candle.keras_private.models import layers_of, seed_generators

# Attributes of Keras's layers for the strength of dropout or noise; at 0 they do nothing.
_STRENGTHS = ("rate", "stddev", "dropout", "recurrent_dropout")


@contextmanager
def without_noise(model: Any) -> Iterator[bool]:
    """Set dropout rates and the strength of noise to 0 inside a `with` block.

    Only in layers with a seed generator: in any other layer a `rate` may have another meaning.

    Args:
        model: a Keras model that is not being traced.

    Yields:
        Whether the model has any dropout or noise.
    """
    before = [
        (layer, name, value)
        for layer in layers_of(model)
        if seed_generators(layer)
        for name, value in _strengths(layer)
    ]
    for layer, name, _ in before:
        setattr(layer, name, 0.0)
    try:
        yield bool(before)
    finally:
        # So that a model saved by the program has its own rates.
        for layer, name, value in before:
            setattr(layer, name, value)


def _strengths(layer: Any) -> list[tuple[str, float]]:
    found = [(name, getattr(layer, name, None)) for name in _STRENGTHS]
    return [(name, value) for name, value in found if isinstance(value, int | float) and value > 0]
