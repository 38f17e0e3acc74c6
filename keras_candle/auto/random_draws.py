"""Give an unseeded script the same random numbers on all ranks.

Each rank holds the whole data and takes its shard, so random data must be equal on all ranks.
"""

from __future__ import annotations

import os
import random

from keras_candle import engine as engines
from keras_candle.launcher_messages import VERIFY
from keras_candle.seeding import SEEDS_OF_OURS, seed_unseeded


def seed_ranks(seed: int) -> None:
    """Seed the random generators that the script has not seeded itself.

    Args:
        seed: the same on all ranks, from 0 to 2**31 - 1.
    """
    seed_unseeded(seed)
    if VERIFY not in os.environ:
        SEEDS_OF_OURS.add(seed)  # no seed of the script's: arrays are shuffled anew in each epoch


def synchronize_random_state() -> None:
    """Broadcast the root's state of Python's and NumPy's random generators.

    A generator that Keras reads ahead may have drawn more numbers on one rank than on another.
    """
    import numpy as np

    python, numpy = engines.current().broadcast((random.getstate(), np.random.get_state()))
    random.setstate(python)
    np.random.set_state(numpy)
