"""The final state of a training: the checkpoint at the end of each fit of each run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - names NumPy's bfloat16 and float8
import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints.folder import CheckpointFolder
from keras_candle.checkpoints.manifest import Tensor, read
from keras_candle.checkpoints.reading import find_damage, read_rank, read_state
from keras_candle.errors import CheckpointError
from keras_candle.run_directory import RunDirectory


@dataclass(frozen=True)
class FinalState:
    """The checkpoint with which a fit ended.

    Attributes:
        folder: the checkpoint's folder.
        tensors: by their names.
        state: the state that all ranks share.
        of_ranks: each rank's own state, by rank.
    """

    folder: Path
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    of_ranks: list[Mapping[str, Any]]

    def values(self, tensor: Tensor) -> NDArray[Any]:
        """Read the values of a tensor."""
        with open(self.folder / tensor.file, "rb") as file:
            file.seek(tensor.offset_bytes)
            content = file.read(tensor.size_bytes)
        return np.frombuffer(content, np.dtype(tensor.dtype)).reshape(tensor.shape)


def final_states(run_directory: Path) -> list[FinalState]:
    """Return the final states of all fits of a run directory, in their order.

    Raises:
        CheckpointError: when there is no whole checkpoint.
    """
    folder = CheckpointFolder(RunDirectory(run_directory).checkpoints, find_damage)
    damage: list[str] = []
    newest = folder.newest_whole(damage.append)
    if newest is None:
        raise CheckpointError(f"{folder.path} has no whole checkpoint. {' '.join(damage)}".strip())
    steps = read_state(folder.path_of(newest))["ends"]
    return [_end(folder.path_of(step)) for step in steps]


def _end(folder: Path) -> FinalState:
    state = read_state(folder)
    tensors = {each.name: each for each in read(folder).tensors}
    of_ranks = [read_rank(folder, rank) for rank in range(state["ranks"])]
    return FinalState(folder, tensors, state, list(of_ranks))
