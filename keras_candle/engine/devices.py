"""Assign GPUs to ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from keras_candle.engine.base import Engine
from keras_candle.errors import EngineError

Device = TypeVar("Device")


def own_device(devices: Sequence[Device], local_rank: int) -> list[Device]:
    """Return the device of the rank with this local rank; ranks share when there are too few.

    Example:
        >>> own_device(["gpu0", "gpu1"], 1), own_device(["gpu0"], 1), own_device([], 0)
        (['gpu1'], ['gpu0'], [])
    """
    return [devices[local_rank % len(devices)]] if devices else []


def pin_gpu(engine: Engine) -> None:
    """Restrict TensorFlow to this rank's GPU, and let it allocate memory as needed.

    Where the launcher gave each rank its own GPU (`srun --gpus-per-task=1`), nothing changes.

    Raises:
        EngineError: when TensorFlow has already initialized the GPUs.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if (engine.size == 1 and engine.local_size == 1) or not gpus:
        return
    mine = own_device(gpus, engine.local_rank)
    try:
        tf.config.set_visible_devices(mine, "GPU")
        for gpu in mine:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as cause:
        raise EngineError(
            "TensorFlow initialized the GPUs before the ranks could divide them. Call "
            "candle.engine.start() at the top of the script, before any tensor is made."
        ) from cause
