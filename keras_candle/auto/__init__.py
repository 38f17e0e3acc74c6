"""`candle run --auto`: train an unedited Keras script on all ranks.

`prepare()` is called in each rank before the script begins. It patches classes of Keras and
TensorFlow, which nothing else in keras_candle does: an unedited script offers no instance to
patch. On one rank it does nothing.
"""

from __future__ import annotations

import functools
import os
import time
from types import ModuleType

from keras_candle import engine as engines
from keras_candle.auto.distributed_scripts import (
    disable_xla,
    refuse_horovod_lines,
    replace_strategies,
)
from keras_candle.auto.file_overlay import write_only_on_root
from keras_candle.cluster import launchers
from keras_candle.launcher_messages import AUTO_SEED, AUTO_STARTED_S, VERIFY
from keras_candle.seeding import SEEDS_OF_OURS, seed_unseeded
from keras_candle.when_imported import when_imported


def prepare() -> None:
    """Prepare this rank for a script that is written for one process."""
    launcher = launchers.detect()
    if launcher is None or launchers.promised_size() == 1:
        return
    is_root = os.environ[launcher.rank] == "0"
    started_s = float(os.environ.get(AUTO_STARTED_S) or time.time())
    write_only_on_root(is_root=is_root, started_s=started_s)
    _seed_ranks(int(os.environ.get(AUTO_SEED, "0")))
    refuse_horovod_lines()
    when_imported("tensorflow", functools.partial(_prepare_tensorflow, is_root=is_root))
    when_imported("keras", _prepare_keras)


def _seed_ranks(seed: int) -> None:
    """Seed what the script has not seeded itself.

    Each rank holds the whole data and takes its shard, so random data must be equal on all ranks.
    """
    seed_unseeded(seed)
    if VERIFY not in os.environ:
        SEEDS_OF_OURS.add(seed)  # no seed of the script's: arrays are shuffled anew in each epoch


def _prepare_tensorflow(tensorflow: ModuleType, is_root: bool) -> None:
    from keras_candle.auto.saving import write_checkpoints_on_root

    replace_strategies(tensorflow)
    disable_xla(tensorflow)
    write_checkpoints_on_root(tensorflow, is_root=is_root)


def _prepare_keras(keras: ModuleType) -> None:
    from keras_candle import backend
    from keras_candle.auto.custom_loops import average_custom_loops
    from keras_candle.auto.models import scale_on_compile
    from keras_candle.auto.saving import save_on_root

    # Before the script makes a tensor on a GPU. Not when TensorFlow has been imported: Horovod
    # imports Keras, whose import may be in progress.
    backend.current().pin(engines.start())
    scale_on_compile(keras)
    average_custom_loops(keras)
    save_on_root(keras)
