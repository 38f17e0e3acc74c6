"""Read and verify a checkpoint's shared and per-rank state, without a model."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - names NumPy's bfloat16 and float8
import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints import manifest
from keras_candle.checkpoints.manifest import inside
from keras_candle.checkpoints.plain import decode
from keras_candle.checkpoints.state_format import find_error_in_rank, find_error_in_state
from keras_candle.errors import CheckpointError

STATE = "state.json"


def rank_file(rank: int) -> str:
    """Return the name of the file with one rank's state.

    Example:
        >>> rank_file(3)
        'rank-00003.npz'
    """
    return f"rank-{rank:05d}.npz"


def read_state(folder: Path) -> dict[str, Any]:
    """Read the state that all ranks share from a whole checkpoint.

    Raises:
        CheckpointError: when it cannot be read or has a wrong form.
    """

    def read() -> Any:
        text = inside(folder, STATE).read_text()
        beside = folder / arrays_of(STATE)
        arrays = _from_npz(inside(folder, beside.name)) if os.path.lexists(beside) else {}
        return decode(json.loads(text), arrays)

    state: dict[str, Any] = _checked(folder / STATE, read, find_error_in_state)
    return state


def read_rank(folder: Path, rank: int) -> dict[str, Any]:
    """Read one rank's state from a whole checkpoint.

    Raises:
        CheckpointError: when it cannot be read or has a wrong form.
    """

    def read() -> Any:
        arrays = _from_npz(inside(folder, rank_file(rank)))
        return decode(json.loads(arrays.pop("json").tobytes()), arrays)

    own: dict[str, Any] = _checked(folder / rank_file(rank), read, find_error_in_rank)
    return own


def find_damage(folder: Path) -> list[str]:
    """Find the damage that prevents resuming from a checkpoint.

    Args:
        folder: the checkpoint.

    Returns:
        A line for each tensor and file that is missing, changed or malformed; empty for a whole
        checkpoint.
    """
    damage = manifest.find_damage(folder)
    if damage:
        return damage
    try:
        found, state = manifest.read(folder), read_state(folder)
        facts = found.facts
        for tensor in found.tensors:
            if tensor.size_bytes != _size_bytes(tensor):
                return [f"{folder}: tensor {tensor} has {tensor.size_bytes} bytes"]
        for name, value in (("step", state["step"]), ("ranks", state["ranks"])):
            if facts.get(name) != value:
                return [f"{folder / STATE}: {name} is {value}, the manifest's {facts.get(name)}"]
        for rank in range(state["ranks"]):
            read_rank(folder, rank)
    except CheckpointError as error:
        return [str(error)]
    return []


def _size_bytes(tensor: manifest.Tensor) -> int:
    try:
        return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
    except TypeError:
        return -1


def _checked(path: Path, read: Callable[[], Any], find_error: Callable[[Any], str]) -> Any:
    """Read a value and check its form."""
    try:
        found = read()
        problem = find_error(found)
    except CheckpointError:
        raise
    except OSError as cause:
        raise CheckpointError(f"{path} cannot be read ({cause})") from cause
    except Exception as cause:  # whatever JSON, NumPy and zip raise for malformed files
        raise CheckpointError(f"{path} is damaged: {type(cause).__name__}: {cause}") from cause
    if problem:
        raise CheckpointError(f"{path} is damaged: {problem}")
    return found


def arrays_of(name: str) -> str:
    """Return the name of the file with the arrays of a JSON file."""
    return f"{name}.npz"


def _from_npz(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
        return dict(arrays)
