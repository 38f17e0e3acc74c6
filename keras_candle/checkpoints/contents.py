"""Write and read the files of a checkpoint's folder.

config.json, metadata.json   the model's architecture, as Keras writes it into a folder
assets                       files of its layers, such as a vocabulary, as Keras writes them
model.weights.h5             weights and optimizer variables, as Keras writes them
variables.bin                variables that Keras does not save as they are, such as LoRA's
state.json                   the remaining state that all ranks share
rank-00000.npz               state of one rank: its random generators, its metrics
MANIFEST.json                a hash of every tensor and file
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints import manifest
from keras_candle.checkpoints.keras_state import write_files
from keras_candle.checkpoints.layout import TensorLocation
from keras_candle.checkpoints.plain import encode
from keras_candle.checkpoints.reading import STATE, arrays_of, rank_file
from keras_candle.checkpoints.weights import HostSnapshot

WEIGHTS, VARIABLES = "model.weights.h5", "variables.bin"
CONFIG, METADATA, ASSETS = "config.json", "metadata.json", "assets"


@dataclass(frozen=True)
class Contents:
    """A training's state at one step.

    Attributes:
        step: step of the run.
        weights: snapshot of the weights file.
        state: plain values that all ranks share.
        of_ranks: plain values of each rank, by rank.
        variables: snapshot of the variables that the weights file lacks; None for none.
        architecture: text of config.json; empty for a model that Keras cannot serialise.
        assets: files of the layers, by relative path.
        facts: JSON values for the manifest.
    """

    step: int
    weights: HostSnapshot
    state: Mapping[str, Any]
    of_ranks: Sequence[Mapping[str, Any]]
    variables: HostSnapshot | None = None
    architecture: str = ""
    assets: Mapping[str, bytes] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write all files, the manifest last.

        Args:
            folder: a new folder.

        Raises:
            OSError: when a file cannot be written.
        """
        tensors = self.weights.write(folder / WEIGHTS)
        if self.variables is not None:
            tensors += self.variables.write(folder / VARIABLES)
        if self.architecture:
            (folder / CONFIG).write_text(self.architecture)
            (folder / METADATA).write_text(json.dumps({"keras_version": keras.__version__}))
        write_files(folder / ASSETS, self.assets)
        arrays: dict[str, NDArray[Any]] = {}
        (folder / STATE).write_text(json.dumps(encode(dict(self.state), arrays), indent=1))
        if arrays:
            (folder / arrays_of(STATE)).write_bytes(_to_npz(arrays))
        for rank, own in enumerate(self.of_ranks):
            (folder / rank_file(rank)).write_bytes(_to_npz_with_json(own))
        described = manifest.describe(folder, tensors, {"step": self.step, **self.facts})
        (folder / manifest.NAME).write_bytes(manifest.to_json(described))


def architecture_of(model: Any) -> str:
    """Return the text of config.json for a model; empty where Keras cannot serialise it."""
    try:
        return json.dumps(keras.saving.serialize_keras_object(model))
    except Exception:  # whatever a user's get_config raises: the weights are saved anyway
        return ""


def read_tensor(folder: Path, tensor: manifest.Tensor) -> NDArray[Any]:
    """Read a tensor of a whole checkpoint.

    Raises:
        OSError: when it cannot be read.
    """
    with open(manifest.inside(folder, tensor.file), "rb") as file:
        file.seek(tensor.offset_bytes)
        content = file.read(tensor.size_bytes)
    return np.frombuffer(content, tensor.dtype).reshape(tensor.shape)


def first_difference(tensors: Iterable[manifest.Tensor], places: Iterable[TensorLocation]) -> str:
    """Return the first difference between a checkpoint's and a model's tensors; empty for none."""
    found = {each.name: (tuple(each.shape), each.dtype) for each in tensors}
    expected = {place.name: (place.shape, place.dtype.name) for place in places}
    for name in [*expected, *found]:
        if found.get(name) != expected.get(name):
            return (
                f"{name} is {_described(found.get(name))} there, "
                f"the model's is {_described(expected.get(name))}"
            )
    return ""


def _described(tensor: tuple[tuple[int, ...], str] | None) -> str:
    return "missing" if tensor is None else f"{tensor[1]} {list(tensor[0])}"


def _to_npz_with_json(value: Mapping[str, Any]) -> bytes:
    arrays: dict[str, NDArray[Any]] = {}
    text = json.dumps(encode(dict(value), arrays)).encode()
    return _to_npz({**arrays, "json": np.frombuffer(text, np.uint8)})


def _to_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()
