"""What `candle verify` does in each rank, and what it makes of it afterwards.

A rank's program is recorded as it trains (`recorder`), into a folder (`record`). When the jobs on
one rank and on N ranks have ended, `python -m keras_candle.verification` compares their folders.
"""

from __future__ import annotations

import json
import os
import random
from types import ModuleType
from typing import Any

from keras_candle.when_imported import when_imported

# JSON object: the folder, the seed, the largest number of epochs of a fit or None, and whether
# dropout and noise are left out.
VARIABLE = "KERAS_CANDLE_VERIFY"


def prepare() -> None:
    """Get ready to record this rank's program, which has not begun yet.

    Everything that draws at random gets a seed. The program's own seeds come later and win.
    """
    settings = json.loads(os.environ[VARIABLE])
    seed = int(settings["seed"])
    # Now, and by the descriptor: with --auto the program's ranks see other files.
    name = os.path.join(settings["folder"], f"process-{os.getpid()}.json")
    manifest = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)

    def record(keras: ModuleType) -> None:
        from keras_candle.verification.recorder import Recorder

        _seed_keras(keras, seed)
        recorder = Recorder(
            settings["folder"], manifest, settings["epochs"], exact=settings["exact"]
        )
        recorder.install()

    random.seed(seed)
    when_imported("numpy", lambda numpy: _seed_numpy(numpy, seed))
    when_imported("keras", record)


def _seed_numpy(numpy: Any, seed: int) -> None:
    numpy.random.seed(seed)
    # Where default_rng() and the like take their seed when they are given none.
    numpy.random.bit_generator.randbits = random.Random(seed).getrandbits  # noqa: S311 - no secret


def _seed_keras(keras: Any, seed: int) -> None:
    """As keras.utils.set_random_seed, which would undo seeds that are set before Keras is there."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    random.setstate(python)
    np.random.set_state(numpy)
