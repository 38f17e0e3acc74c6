"""Write a checkpoint: a snapshot of its tensors, the files of its folder, asynchronously.

config.json, metadata.json   the model's architecture, as Keras writes it into a folder
assets                       files of its layers, such as a vocabulary, as Keras writes them
model.weights.h5             weights and optimizer variables, as Keras writes them
variables.bin                variables that Keras does not save as they are, such as LoRA's
state.json                   the remaining state that all ranks share
ranks.zip                    rank-00000.npz and so on, state of one rank: its random generators,
                             its metrics
MANIFEST.json                a hash of every tensor and file
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints import manifest
from keras_candle.checkpoints.keras_state import write_files
from keras_candle.checkpoints.layout import Layout, TensorLocation
from keras_candle.checkpoints.manifest import Tensor, digest
from keras_candle.checkpoints.plain import encode
from keras_candle.checkpoints.reading import RANKS, STATE, arrays_of, rank_file

WEIGHTS, VARIABLES = "model.weights.h5", "variables.bin"
CONFIG, METADATA, ASSETS = "config.json", "metadata.json", "assets"
BLOCK_BYTES = 4096
_PIECE_BYTES = 1 << 24


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
        # One file: thousands of small ones are slow on a shared file system.
        with zipfile.ZipFile(folder / RANKS, "x") as parts:
            for rank, own in enumerate(self.of_ranks):
                parts.writestr(zipfile.ZipInfo(rank_file(rank)), _to_npz_with_json(own))
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


class HostSnapshot:
    """A snapshot of tensors in host memory, laid out as a file.

    Args:
        layout: layout of the file.

    Attributes:
        layout: layout of the file.
        arrays: an array for each of its places, as it will be written.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        # Reused for every snapshot: new memory costs more than the copy.
        self._image = aligned_memory(layout.size_bytes)
        for offset, piece in layout.pieces.items():
            self._image[offset : offset + len(piece)] = np.frombuffer(piece, np.uint8)
        self.arrays: list[NDArray[Any]] = [
            np.ndarray(place.shape, place.dtype, self._image.data, place.offset_bytes)
            for place in layout.places
        ]
        self._left: list[tuple[NDArray[Any], Any]] = []

    def touch(self) -> None:
        """Touch each page, so that the system allocates the memory now."""
        self._image[::BLOCK_BYTES] |= 0

    def take(self) -> None:
        """Take a snapshot of the current tensors, which replaces the earlier one.

        A value of TensorFlow in host memory is only referred to: TensorFlow updates a copy as long
        as the reference exists, and `finish` copies the value. Any other value is copied before
        this returns.
        """
        self._left.clear()
        for value, array in zip(self.layout.values(), self.arrays, strict=True):
            kept = _reference(value)
            if kept is None:
                np.copyto(array, keras.ops.convert_to_numpy(value))
            else:
                self._left.append((array, kept))

    def finish(self) -> None:
        """Copy the values that are only referred to; may run in another thread."""
        for array, kept in self._left:
            np.copyto(array, np.asarray(kept))
        self._left.clear()

    def write(self, path: Path) -> tuple[Tensor, ...]:
        """Write the file.

        Args:
            path: a file that does not exist yet.

        Returns:
            The tensors for the manifest, hashed in memory.

        Raises:
            OSError: when the disk is full or cannot be written.
        """
        self.finish()
        tensors = tuple(
            Tensor(
                place.name,
                path.name,
                place.offset_bytes,
                place.size_bytes,
                place.shape,
                place.dtype.name,
                digest(self._image[place.offset_bytes : place.offset_bytes + place.size_bytes]),
            )
            for place in self.layout.places
        )
        write_directly(path, self._image, self.layout.size_bytes)
        return tensors


def _reference(value: Any) -> memoryview | None:
    """Return a variable's value in host memory that later updates do not change, else None."""
    variable = getattr(value, "value", value)
    if not hasattr(variable, "read_value"):
        return None
    tensor = variable.read_value()
    if "CPU" not in tensor.backing_device:
        return None
    try:
        return memoryview(tensor)
    except ValueError:  # no buffer holds bfloat16
        return None


def aligned_memory(size_bytes: int) -> NDArray[np.uint8]:
    """Allocate zeroed memory for `write_directly`: whole blocks that begin at a block boundary.

    Args:
        size_bytes: minimum size.

    Returns:
        uint8 [bytes].
    """
    blocks = -(-size_bytes // BLOCK_BYTES)
    memory = np.zeros((blocks + 1) * BLOCK_BYTES, np.uint8)
    begin = -memory.ctypes.data % BLOCK_BYTES
    return memory[begin : begin + blocks * BLOCK_BYTES]


def write_directly(path: Path, content: NDArray[np.uint8], size_bytes: int) -> None:
    """Write a new file past the page cache (O_DIRECT), and wait until it is on the disk.

    During a training the cache costs more than the disk: a core that the training needs allocates
    and fills each page, and frees it when an older checkpoint is removed. The space is allocated
    first, so that a full disk raises before a byte is written.

    Args:
        path: a file that does not exist yet.
        content: memory of `aligned_memory` for this size.
        size_bytes: size of the file.

    Raises:
        OSError: when the disk is full or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, content.size)
        past_cache = _set_direct(descriptor, getattr(os, "O_DIRECT", 0))
        at = 0
        while at < content.size:
            try:
                at += os.pwrite(descriptor, content[at : at + _PIECE_BYTES].data, at)
            except OSError as cause:
                if cause.errno != errno.EINVAL or not past_cache:
                    raise
                past_cache = _set_direct(descriptor, 0)
        os.ftruncate(descriptor, size_bytes)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_direct(descriptor: int, flag: int) -> bool:
    """Set or clear O_DIRECT; return whether it is set. Not every file system has it."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    without_direct = flags & ~getattr(os, "O_DIRECT", 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, without_direct | flag)
    except OSError:
        return False
    return bool(flag)


class Writer:
    """Runs jobs in a thread, one at a time; a second job waits for the first."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, job: Callable[[], Any]) -> None:
        """Run a job asynchronously, after the previous one.

        Raises:
            BaseException: the error of the previous job.
        """
        self.wait()
        # Not a daemon: a process waits at its end for its last checkpoint.
        self._thread = threading.Thread(target=self._run, args=(job,), name="candle-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the job under way.

        Raises:
            BaseException: the job's error, once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise the job's error, once, without waiting for the job."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether a job's error has not been raised yet."""
        return self._error is not None

    def _run(self, job: Callable[[], Any]) -> None:
        try:
            job()
        except BaseException as caught:
            self._error = caught
