"""A model's tensors in host memory, and from there in a file that Keras loads."""

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
    """The file of a layout in memory, with the tensors as they were at one moment.

    Args:
        layout: of the file.

    Attributes:
        layout: of the file.
        arrays: a tensor for each of its places, as it will be written.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        # Used for every snapshot: fresh memory costs more than the copy.
        self._image = direct.aligned(layout.size_bytes)
        for offset, piece in layout.pieces.items():
            self._image[offset : offset + len(piece)] = np.frombuffer(piece, np.uint8)
        self.arrays: list[NDArray[Any]] = [
            np.ndarray(place.shape, place.dtype, self._image.data, place.offset_bytes)
            for place in layout.places
        ]
        self._left: list[tuple[NDArray[Any], Any]] = []

    def touch(self) -> None:
        """Get the memory from the system, which gives it when it is first written to."""
        self._image[:: direct.BLOCK_BYTES] |= 0

    def take(self) -> None:
        """Note the tensors as they are now, in the place of those that were taken before.

        Where a variable's value never changes and is cheap to keep, as TensorFlow's is in host
        memory, only a reference is taken: TensorFlow updates a copy as long as there is one.
        Anything else is copied before this returns. `finish` copies the others.
        """
        self._left.clear()
        for value, array in zip(self.layout.values(), self.arrays, strict=True):
            kept = _reference(value)
            if kept is None:
                np.copyto(array, keras.ops.convert_to_numpy(value))
            else:
                self._left.append((array, kept))

    def finish(self) -> None:
        """Copy what was only referred to; may run in another thread."""
        for array, kept in self._left:
            np.copyto(array, np.asarray(kept))
        self._left.clear()

    def write(self, path: Path) -> tuple[Tensor, ...]:
        """Write the .weights.h5.

        Args:
            path: a file that is not there yet.

        Returns:
            What the manifest says of the tensors, hashed from memory.

        Raises:
            OSError: when the disk has no room, or cannot be written.
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
    """A variable's value that stays as it is when the variable changes, in host memory."""
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
