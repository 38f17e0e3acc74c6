"""Seed the random numbers of a script that sets no seed.

A seed that the script sets wins, before or after its imports.
"""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from keras_candle.when_imported import when_imported

# Global seeds that keras_candle has set, not the user.
SEEDS_OF_OURS: set[int] = set()


def seed_unseeded(seed: int) -> None:
    """Seed Python's random, and NumPy, TensorFlow and Keras once they are imported.

    Args:
        seed: the same on all ranks, from 0 to 2**31 - 1.
    """
    random.seed(seed)
    when_imported("numpy", lambda numpy: _seed_numpy(numpy, seed))
    when_imported("tensorflow", lambda tensorflow: tensorflow.random.set_seed(seed))
    when_imported("keras", lambda keras: _seed_keras(keras, seed))


def _seed_numpy(numpy: ModuleType, seed: int) -> None:
    numpy.random.seed(seed)
    # The source of seeds for default_rng(), RandomState() and the like when they get none.
    numpy.random.bit_generator.randbits = random.Random(seed).getrandbits  # noqa: S311 - no secret


@contextmanager
def default_seeds(seed: str) -> Iterator[None]:
    """Let NumPy's default_rng() and the like take their seeds from `seed` within the context.

    Args:
        seed: any text.
    """
    source: Any = importlib.import_module("numpy.random.bit_generator")
    before = source.randbits
    source.randbits = random.Random(seed).getrandbits  # noqa: S311 - no secret
    try:
        yield
    finally:
        source.randbits = before


def _seed_keras(keras: ModuleType, seed: int) -> None:
    """Call keras.utils.set_random_seed, but keep the seeds that the script has set already."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    tensorflow = sys.modules.get("tensorflow")
    before = tensorflow.compat.v1.random.get_seed(0)[0] if tensorflow else None
    keras.utils.set_random_seed(seed)
    random.setstate(python)
    np.random.set_state(numpy)
    if tensorflow:
        tensorflow.random.set_seed(before)
