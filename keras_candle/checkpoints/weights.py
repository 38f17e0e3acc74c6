"""A model's tensors in host memory, and from there in a file that Keras loads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints.layout import Layout
from keras_candle.checkpoints.manifest import Tensor, digest


class Snapshot:
    """The tensors of a layout as they were at one moment.

    Args:
        layout: the file that they are for.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        # Used for every snapshot: fresh memory costs more than the copy.
        self.arrays: list[NDArray[Any]] = [
            np.empty(place.shape, place.dtype) for place in layout.places
        ]

    def touch(self) -> None:
        """Get the memory from the system, which gives it when it is first written to."""
        for array in self.arrays:
            array.fill(0)

    def take(self) -> None:
        """Copy the tensors as they are now, in the place of those that were taken before."""
        for place, array in zip(self.layout.places, self.arrays, strict=True):
            np.copyto(array, _on_host(place.value()))


def _on_host(value: Any) -> Any:
    """An array, which shares the variable's memory where that can be had."""
    variable = getattr(value, "value", value)
    if hasattr(variable, "read_value"):
        try:
            return np.asarray(memoryview(variable.read_value()))
        except ValueError:  # no buffer holds bfloat16
            pass
    return keras.ops.convert_to_numpy(value)


def write(path: Path, layout: Layout, arrays: Sequence[NDArray[Any]]) -> tuple[Tensor, ...]:
    """Write a .weights.h5.

    The room is taken at once, so that a full disk is told before a byte is written.

    Args:
        path: a file that is not there yet.
        layout: of the file.
        arrays: a tensor for each of its places.

    Returns:
        What the manifest says of the tensors, hashed from memory.

    Raises:
        OSError: when the disk has no room, or cannot be written.
    """
    tensors = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, layout.size_bytes)
        for offset, piece in layout.pieces.items():
            _write_at(descriptor, memoryview(piece), offset)
        for place, array in zip(layout.places, arrays, strict=True):
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            _write_at(descriptor, content, place.offset_bytes)
            tensors.append(
                Tensor(
                    place.name,
                    path.name,
                    place.offset_bytes,
                    place.size_bytes,
                    place.shape,
                    place.dtype.name,
                    digest(content),
                )
            )
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return tuple(tensors)


def _write_at(descriptor: int, content: memoryview, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
