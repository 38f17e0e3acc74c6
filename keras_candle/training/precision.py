"""Precision: choose the Keras dtype policy of a model from the `precision` option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import keras

from keras_candle import backend
from keras_candle.engine.base import Engine

# From the least to the most capable hardware.
_LADDER = ("float32", "mixed_float16", "mixed_bfloat16")
_BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")


class Choice(NamedTuple):
    """An automatically chosen precision.

    Attributes:
        precision: a dtype policy.
        reason: the hardware fact behind it, as the end of a sentence.
    """

    precision: str
    reason: str


# The choices that this process has printed.
_PRINTED: set[Choice] = set()


@contextmanager
def precision_scope(precision: str | None, engine: Engine) -> Iterator[None]:
    """Build layers under a dtype policy, and restore the global policy afterwards.

    Args:
        precision: as in `ScalingOptions`; None changes nothing.
        engine: for "auto", which takes the fastest precision of the weakest rank's hardware and
            prints it once.
    """
    if precision is None:
        yield
        return
    if precision == "auto":
        choice = automatic_precision(engine)
        if choice not in _PRINTED:  # a search builds many models
            _PRINTED.add(choice)
            engine.print_on_root(f'precision="auto" takes {choice.precision}: {choice.reason}')
        precision = choice.precision
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def automatic_precision(engine: Engine) -> Choice:
    """Return the fastest precision for which every rank's hardware has instructions, unmeasured.

    Source: NVIDIA compute capability 8.0 and later multiplies bfloat16 on its tensor cores,
    7.0 and 7.5 float16 only; x86 processors with AVX512_BF16 or AMX multiply bfloat16. On a
    processor float16 is never faster.
    """
    own = precision_of_this_node()
    weakest = _LADDER[int(engine.allreduce(_LADDER.index(own.precision), "min"))]
    if weakest == own.precision:
        return own
    return Choice(weakest, f"the hardware of another rank speeds up no more ({own.reason})")


def precision_of_this_node() -> Choice:
    """Return the precision for the hardware that this process sees."""
    capability = backend.current().gpu_capability()
    if capability is not None:
        return precision_of_gpu(capability)
    cpuinfo = Path("/proc/cpuinfo")
    return precision_of_cpu(cpuinfo.read_text() if cpuinfo.exists() else "")


def precision_of_gpu(compute_capability: tuple[int, int]) -> Choice:
    """Return the precision for a GPU.

    Example:
        >>> for capability in ((9, 0), (7, 5), (6, 1)):
        ...     print(*precision_of_gpu(capability), sep=": ")
        mixed_bfloat16: this GPU has compute capability 9.0, and 8.0 or more multiplies bfloat16
        mixed_float16: this GPU has compute capability 7.5, and 7.0 to 7.5 multiply float16
        float32: this GPU has compute capability 6.1, and less than 7.0 speeds up neither
    """
    has = f"this GPU has compute capability {'.'.join(map(str, compute_capability))}, and "
    if compute_capability >= (8, 0):
        return Choice("mixed_bfloat16", f"{has}8.0 or more multiplies bfloat16")
    if compute_capability >= (7, 0):
        return Choice("mixed_float16", f"{has}7.0 to 7.5 multiply float16")
    return Choice("float32", f"{has}less than 7.0 speeds up neither")


def precision_of_cpu(cpuinfo: str) -> Choice:
    """Return the precision for a processor, from the text of /proc/cpuinfo.

    Example:
        >>> for flags in ("flags : fma avx512_bf16", "flags : fma avx2"):
        ...     print(*precision_of_cpu(flags), sep=": ")
        mixed_bfloat16: this CPU has avx512_bf16
        float32: this CPU has neither avx512_bf16 nor amx_bf16
    """
    found = [flag for flag in _BFLOAT16_FLAGS if flag in cpuinfo.split()]
    if found:
        return Choice("mixed_bfloat16", f"this CPU has {' and '.join(found)}")
    return Choice("float32", f"this CPU has neither {' nor '.join(_BFLOAT16_FLAGS)}")
