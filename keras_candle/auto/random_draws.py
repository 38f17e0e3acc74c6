"""Give an unseeded script the same random numbers on all ranks.

Each rank holds the whole data and takes its shard, so random data must be equal on all ranks.
"""

from __future__ import annotations

import os
import random

from keras_candle import engine as engines
from keras_candle.seeding import seed_unseeded
from keras_candle.when_imported import when_imported


def seed_ranks(seed: int) -> None:
    """Seed the random generators that the script has not seeded itself.

    Args:
        seed: the same on all ranks, from 0 to 2**31 - 1.
    """
    seed_unseeded(seed)
    if "KERAS_CANDLE_VERIFY" not in os.environ:
        when_imported("keras", lambda _: _reshuffle_each_epoch(seed))


def synchronize_random_state() -> None:
    """Broadcast the root's state of Python's and NumPy's random generators.

    A generator that Keras reads ahead may have drawn more numbers on one rank than on another.
    """
    import numpy as np

    python, numpy = engines.current().broadcast((random.getstate(), np.random.get_state()))
    random.setstate(python)
    np.random.set_state(numpy)


def _reshuffle_each_epoch(seed: int) -> None:
    """Shuffle anew in each epoch, as the script has set no seed."""
    from keras_candle.data import shuffling

    shuffling.SEEDS_OF_OURS.add(seed)
