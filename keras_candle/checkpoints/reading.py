"""What of a checkpoint is read without a model: its state and the ranks' own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints.plain import decode

STATE = "state.json"


def rank_file(rank: int) -> str:
    """The name of the file with what is one rank's own.

    Example:
        >>> rank_file(3)
        'rank-00003.npz'
    """
    return f"rank-{rank:05d}.npz"


def read_state(folder: Path) -> dict[str, Any]:
    """What all ranks share, from a checkpoint that is whole."""
    beside = folder / arrays_of(STATE)
    arrays = _from_npz(beside.read_bytes()) if beside.exists() else {}
    state: dict[str, Any] = decode(json.loads((folder / STATE).read_text()), arrays)
    return state


def read_rank(folder: Path, rank: int) -> dict[str, Any]:
    """What is one rank's own, from a checkpoint that is whole."""
    arrays = _from_npz((folder / rank_file(rank)).read_bytes())
    own: dict[str, Any] = decode(json.loads(arrays.pop("json").tobytes()), arrays)
    return own


def arrays_of(name: str) -> str:
    """The name of the file with the arrays of a JSON file."""
    return f"{name}.npz"


def _from_npz(content: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)
