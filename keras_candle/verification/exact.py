"""For `--exact`: a model that draws nothing at random while it is compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keras_candle.keras_private.models import layers_of, seed_generators

# What Keras's layers that drop or add noise call its strength; at 0 they do nothing.
_STRENGTHS = ("rate", "stddev", "dropout", "recurrent_dropout")


@contextmanager
def without_noise(model: Any) -> Iterator[bool]:
    """Set dropout rates and the strength of noise to 0, and back at the end.

    Only in layers with a seed generator: others may call something else a rate.

    Args:
        model: a Keras model that is not being traced.

    Yields:
        Whether there was any to leave out.
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
        # A model that the program saves has its rates.
        for layer, name, value in before:
            setattr(layer, name, value)


def _strengths(layer: Any) -> list[tuple[str, float]]:
    found = [(name, getattr(layer, name, None)) for name in _STRENGTHS]
    return [(name, value) for name, value in found if isinstance(value, int | float) and value > 0]
