"""Random numbers of a script without a seed: the same on all ranks, from beginning to end.

The ranks divide data that each of them holds as a whole: rows that each rank draws for itself
cannot be divided.
"""

from __future__ import annotations

import os
import random

from keras_candle import engine as engines
from keras_candle.seeding import seed_unseeded
from keras_candle.when_imported import when_imported


def draw_alike(seed: int) -> None:
    """Seed what the script has not seeded itself.

    Args:
        seed: the same on all ranks, from 0 to 2**31 - 1.
    """
    seed_unseeded(seed)
    if "KERAS_CANDLE_VERIFY" not in os.environ:
        when_imported("keras", lambda _: _order_anew(seed))


def draw_on_alike() -> None:
    """Go on from the root's place in Python's and NumPy's random numbers.

    A generator that Keras reads ahead has drawn more on one rank than on another.
    """
    import numpy as np

    python, numpy = engines.current().broadcast((random.getstate(), np.random.get_state()))
    random.setstate(python)
    np.random.set_state(numpy)


def _order_anew(seed: int) -> None:
    """A script that sets no seed gets a new order of rows in each epoch."""
    from keras_candle.data import shuffling

    shuffling.SEEDS_OF_OURS.add(seed)
