"""`candle run --auto`: a script that knows nothing of ranks trains on all of them, unedited.

`prepare()` is called in each rank before the script begins. It changes classes of Keras and
TensorFlow, which nothing else in keras_candle does: a script that is not edited offers no
instance to hold on to. On one rank it does nothing.
"""

from __future__ import annotations

import functools
import os
import time
from types import ModuleType

from keras_candle import engine as engines
from keras_candle.auto.files import write_on_root_alone
from keras_candle.auto.horovod_lines import refuse_horovod_lines
from keras_candle.auto.random_draws import draw_alike
from keras_candle.cluster import launchers
from keras_candle.engine.devices import pin_gpu
from keras_candle.when_imported import when_imported

# `candle run --auto` gives both, the same for all ranks.
SEED = "KERAS_CANDLE_AUTO_SEED"
STARTED_S = "KERAS_CANDLE_AUTO_STARTED_S"


def prepare() -> None:
    """Get this rank ready for a script that is written for one process."""
    launcher = launchers.detect()
    if launcher is None or launchers.promised_size() == 1:
        return
    is_root = os.environ[launcher.rank] == "0"
    started_s = float(os.environ.get(STARTED_S) or time.time())
    write_on_root_alone(is_root=is_root, started_s=started_s)
    draw_alike(int(os.environ.get(SEED, "0")))
    refuse_horovod_lines()
    when_imported("tensorflow", functools.partial(_prepare_tensorflow, is_root=is_root))
    when_imported("keras", _prepare_keras)


def _prepare_tensorflow(tensorflow: ModuleType, is_root: bool) -> None:
    from keras_candle.auto.hand_loops import leave_xla_out
    from keras_candle.auto.strategies import take_strategies_out
    from keras_candle.auto.tensorflow_files import write_checkpoints_on_root

    take_strategies_out(tensorflow)
    leave_xla_out(tensorflow)
    write_checkpoints_on_root(tensorflow, is_root=is_root)


def _prepare_keras(keras: ModuleType) -> None:
    from keras_candle.auto.hand_loops import average_hand_loops
    from keras_candle.auto.keras_files import save_on_root
    from keras_candle.auto.models import scale_as_compiled

    # Before the script makes a tensor on a GPU. Not when TensorFlow has been imported: Horovod
    # imports Keras, which may be on its way.
    pin_gpu(engines.start())
    scale_as_compiled(keras)
    average_hand_loops(keras)
    save_on_root(keras)
