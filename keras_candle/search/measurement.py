"""Measure a trial's cost: device-seconds, memory, parameters and prediction latency."""

from __future__ import annotations

import contextlib
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_candle.keras_private.models import registered_gradients

_PREDICTIONS = 5
_PEAK = "VmHWM:"


class Measurement:
    """Measures one trial, from its construction on.

    Args:
        ranks: the number of ranks that run the trial.
    """

    def __init__(self, ranks: int) -> None:
        self._ranks, self._began_s = ranks, time.perf_counter()
        _reset_peak()

    def take(self, model: Any) -> dict[str, float]:
        """Return the cost of the trial.

        Args:
            model: the trained model; None for a trial without a Keras model.

        Returns:
            "device_seconds" (time of the trial times its ranks), "peak_memory_bytes" of this
            process, on GPUs of the device; with a built model also "parameters" and
            "prediction_latency_s", the median time of the model's call on one row, uncompiled.
        """
        found = {
            "device_seconds": (time.perf_counter() - self._began_s) * self._ranks,
            "peak_memory_bytes": float(_peak_bytes()),
        }
        if model is not None and model.built:
            found["parameters"] = float(model.count_params())
            with contextlib.suppress(Exception):  # a model that cannot take such a row
                found["prediction_latency_s"] = _latency_s(model)
        return found


@contextlib.contextmanager
def freeze_existing_objects() -> Iterator[Callable[[], None]]:
    """Freeze the objects that exist before a search, so that collections between trials are short.

    The garbage collector skips them (`gc.freeze`). Most are imported modules: a collection then
    takes milliseconds instead of a third of a second.

    Yields:
        A function to call after each trial. It unregisters the gradients of the trial's functions:
        TensorFlow keeps those for good, and with them each function's graph and memory of about
        the size of the trial's model and optimizer.
    """
    gc.collect()
    gc.freeze()
    gradients = _registered_gradients()
    before = set(gradients)

    def forget() -> None:
        for name in set(gradients) - before:
            del gradients[name]

    try:
        yield forget
    finally:
        gc.unfreeze()


def _registered_gradients() -> dict[str, Any]:
    """TensorFlow's registry of `tf.custom_gradient` functions, by name."""
    if keras.backend.backend() != "tensorflow":
        return {}
    return registered_gradients()


def release_memory() -> None:
    """Return a trial's memory to the operating system, so that processes can run further trials."""
    keras.backend.clear_session()  # collects garbage, too
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _latency_s(model: Any) -> float:
    # `inputs` where it is one tensor: a Sequential model has no `input`.
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.input
    row = keras.tree.map_structure(_one_row, inputs)
    times = []
    for _ in range(_PREDICTIONS):
        began_s = time.perf_counter()
        keras.tree.map_structure(keras.ops.convert_to_numpy, model(row, training=False))
        times.append(time.perf_counter() - began_s)
    return statistics.median(times)


def _one_row(tensor: Any) -> Any:
    shape = [1, *(size or 1 for size in tensor.shape[1:])]
    return np.zeros(shape, "float32" if "bfloat16" in tensor.dtype else tensor.dtype)


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    memory, devices = _gpus()
    for device in devices:
        memory.reset_memory_stats(device)


def _peak_bytes() -> int:
    memory, devices = _gpus()
    if devices:
        return sum(int(memory.get_memory_info(device)["peak"]) for device in devices)
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(_PEAK)).split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _gpus() -> tuple[Any, list[str]]:
    """TensorFlow's memory statistics, and its GPUs."""
    if keras.backend.backend() != "tensorflow":
        return None, []
    import tensorflow as tf

    devices = [f"GPU:{i}" for i, _ in enumerate(tf.config.list_logical_devices("GPU"))]
    return tf.config.experimental, devices
