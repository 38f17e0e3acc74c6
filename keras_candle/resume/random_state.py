"""Save and restore the global random number generators of a process."""

from __future__ import annotations

import random
import sys
from typing import Any

import keras
import numpy as np

from keras_candle.keras_private.models import global_seed_generator


def random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's, Keras's and torch's global generators."""
    version, numbers, gauss = random.getstate()
    torch = sys.modules.get("torch")
    generator = global_seed_generator()
    return {
        "python": (version, np.array(numbers, np.uint32), gauss),
        "numpy": tuple(np.random.get_state()),
        "keras": None if generator is None else keras.ops.convert_to_numpy(generator.state),
        "torch": None if torch is None else torch.random.get_rng_state().numpy(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states of `random_state`, possibly in another process."""
    if state["keras"] is not None:
        global_seed_generator(make=True).state.assign(state["keras"])
    torch = sys.modules.get("torch")
    if torch is not None and state["torch"] is not None:
        torch.random.set_rng_state(torch.from_numpy(np.array(state["torch"])))
    np.random.set_state(state["numpy"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(map(int, numbers)), gauss))
