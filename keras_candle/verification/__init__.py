"""What `candle verify` does in each rank, and what it makes of it afterwards.

A rank's program is recorded as it trains (`recorder`), into a folder (`record`). When the jobs on
one rank and on N ranks have ended, `python -m keras_candle.verification` compares their folders.
"""

from __future__ import annotations

import json
import os
import random
from types import ModuleType

from keras_candle.when_imported import when_imported

# JSON object: the folder, the seed, and the largest number of epochs of a fit or None.
VARIABLE = "KERAS_CANDLE_VERIFY"


def prepare() -> None:
    """Get ready to record this rank's program, which has not begun yet.

    Everything that draws at random gets a seed. The program's own seeds come later and win.
    """
    settings = json.loads(os.environ[VARIABLE])
    seed = int(settings["seed"])

    def seed_numpy(numpy: ModuleType) -> None:
        numpy.random.seed(seed)

    def record(keras: ModuleType) -> None:
        from keras_candle.verification.recorder import Recorder

        keras.utils.set_random_seed(seed)
        Recorder(settings["folder"], settings["epochs"]).install()

    random.seed(seed)
    when_imported("numpy", seed_numpy)
    when_imported("keras", record)
