"""Precision: the user's word for it becomes a Keras dtype policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError

PRECISIONS = (None, "float32", "mixed_float16", "mixed_bfloat16", "auto")

# From the least to the most capable hardware.
_LADDER = ("float32", "mixed_float16", "mixed_bfloat16")


def check_precision(precision: str | None) -> None:
    """Refuse an unknown precision.

    Raises:
        CandleError: with the precisions that there are.
    """
    if precision not in PRECISIONS:
        raise CandleError(
            f"precision={precision!r} is unknown, expected one of "
            f"{', '.join(map(repr, PRECISIONS))}."
        )


@contextmanager
def precision_scope(precision: str | None, engine: Engine) -> Iterator[None]:
    """Build layers under a dtype policy; afterwards the global policy is what it was.

    Args:
        precision: one of `PRECISIONS`; None leaves everything alone.
        engine: "auto" takes what the weakest rank's hardware speeds up.
    """
    if precision is None:
        yield
        return
    if precision == "auto":
        precision = automatic_precision(engine)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def automatic_precision(engine: Engine) -> str:
    """The fastest precision that every rank's hardware has instructions for.

    Source: NVIDIA compute capability 8.0 and later multiplies bfloat16 on its tensor cores,
    7.0 and 7.5 float16 only; x86 processors with AVX512_BF16 or AMX multiply bfloat16. On a
    processor float16 is never faster.
    """
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        own = precision_of_gpu(details.get("compute_capability", (0, 0)))
    else:
        cpuinfo = Path("/proc/cpuinfo")
        own = precision_of_cpu(cpuinfo.read_text() if cpuinfo.exists() else "")
    return _LADDER[int(engine.allreduce(_LADDER.index(own), "min"))]


def precision_of_gpu(compute_capability: tuple[int, int]) -> str:
    """The precision for a GPU.

    Example:
        >>> precision_of_gpu((9, 0)), precision_of_gpu((7, 5)), precision_of_gpu((6, 1))
        ('mixed_bfloat16', 'mixed_float16', 'float32')
    """
    if compute_capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if compute_capability >= (7, 0) else "float32"


def precision_of_cpu(cpuinfo: str) -> str:
    """The precision for a processor, from the text of /proc/cpuinfo.

    Example:
        >>> precision_of_cpu("flags : fma avx512_bf16"), precision_of_cpu("flags : fma avx2")
        ('mixed_bfloat16', 'float32')
    """
    flags = set(cpuinfo.split())
    return "mixed_bfloat16" if flags & {"avx512_bf16", "amx_bf16"} else "float32"
