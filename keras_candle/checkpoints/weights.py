"""Copy a model's tensors to host memory and write them as a file that Keras loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints import direct
from keras_candle.checkpoints.layout import Layout
from keras_candle.checkpoints.manifest import Tensor, digest


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
        self._image = direct.aligned(layout.size_bytes)
        for offset, piece in layout.pieces.items():
            self._image[offset : offset + len(piece)] = np.frombuffer(piece, np.uint8)
        self.arrays: list[NDArray[Any]] = [
            np.ndarray(place.shape, place.dtype, self._image.data, place.offset_bytes)
            for place in layout.places
        ]
        self._left: list[tuple[NDArray[Any], Any]] = []

    def touch(self) -> None:
        """Touch each page, so that the system allocates the memory now."""
        self._image[:: direct.BLOCK_BYTES] |= 0

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
        direct.write(path, self._image, self.layout.size_bytes)
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
