"""The position of each tensor of a model in the .weights.h5 that Keras would write.

The layout is made once, in memory and without the tensors. A checkpoint is then the layout's few
kilobytes with the tensors copied to their offsets, without HDF5, which would copy the tensors once
more and, on a full disk, crash the interpreter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import keras
import ml_dtypes  # noqa: F401 - names NumPy's bfloat16 and float8
import numpy as np

from keras_candle.checkpoints.keras_state import NO_SOURCES, Sources, StateEntry, sources_of

_ALIGNMENT_BYTES = 64
# HDF5 keeps the tensors where they are allocated at once, in one piece, and filled with nothing.
_TENSOR = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
_TENSOR.set_layout(h5py.h5d.CONTIGUOUS)
_TENSOR.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
_TENSOR.set_fill_time(h5py.h5d.FILL_TIME_NEVER)


@dataclass(frozen=True)
class TensorLocation:
    """A tensor and its position in the file.

    Attributes:
        name: the tensor's name in the file, such as "layers/dense/vars/0".
        shape: its shape.
        dtype: its dtype.
        offset_bytes: its offset in the file.
        size_bytes: its size.
        variable: the variable with its value; None for a value that its owner computes on saving.
        source: (path, key) in `Layout.sources`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset_bytes: int
    size_bytes: int
    variable: Any
    source: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Layout:
    """The layout of a file: its bytes outside of the tensors, and the tensors' positions.

    Attributes:
        size_bytes: size of the file.
        pieces: the bytes outside of the tensors, by offset.
        places: the tensors, in the order of the file.
        sources: the origins of a model's values; empty for a file of only variables.
    """

    size_bytes: int
    pieces: Mapping[int, bytes]
    places: tuple[TensorLocation, ...]
    sources: Sources = NO_SOURCES

    def values(self) -> list[Any]:
        """Return the current values in the order of `places`: variables, tensors or arrays."""
        is_computed = any(place.variable is None for place in self.places)
        computed = self.sources.compute() if is_computed else {}
        return [
            computed.get(place.source) if place.variable is None else place.variable
            for place in self.places
        ]

    def fits(self) -> bool:
        """Whether computed values still have the shapes and dtypes of the layout."""
        return all(
            place.variable is not None
            or (value is not None and _kind_of(value) == (place.shape, place.dtype))
            for place, value in zip(self.places, self.values(), strict=True)
        )


def layout_of(model: Any, optimizers: Iterable[Any] = ()) -> Layout:
    """Return the layout of a model's weights and optimizer variables.

    Args:
        model: a built Keras model.
        optimizers: the optimizers whose variables Keras saves as numbered copies.
    """
    memory = _Memory()
    sources = sources_of(model, optimizers)
    entries = [each for each in sources.entries.values() if each.values or each.metadata]
    with h5py.File(memory, "w") as file:
        datasets = [
            (entry, key, *_create(group, key, entry.values[key]))
            for entry, group in _groups(file, entries)
            for key in entry.values
        ]
        places = [
            TensorLocation(
                name_of(entry.path, key),
                tuple(dataset.shape),
                dtype,
                dataset.id.get_offset() or 0,
                dataset.size * dtype.itemsize,
                sources.variables.get((entry.path, key)),
                (entry.path, key),
            )
            for entry, key, dataset, dtype in datasets
        ]
    places.sort(key=lambda place: place.offset_bytes)
    return Layout(memory.size, _outside(memory.written, places), tuple(places), sources)


def layout_of_variables(variables: Iterable[Any]) -> Layout:
    """Return the layout of a file of only variables, in sequence."""
    places, offset = [], 0
    for number, variable in enumerate(variables):
        shape, dtype = _kind_of(variable)
        size_bytes = math.prod(shape) * dtype.itemsize
        places.append(
            TensorLocation(f"variables/{number}", shape, dtype, offset, size_bytes, variable)
        )
        offset += -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    return Layout(max(offset, 1), {}, tuple(places))


def name_of(path: str, key: str) -> str:
    """Return a tensor's name in a file that Keras writes.

    Example:
        >>> name_of("layers/dense", "0")
        'layers/dense/vars/0'
    """
    return f"{path}/vars/{key}" if path else f"vars/{key}"


def _kind_of(value: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return tuple(value.shape), np.dtype(keras.backend.standardize_dtype(value.dtype))


def _groups(file: h5py.File, entries: list[StateEntry]) -> Iterator[tuple[StateEntry, h5py.Group]]:
    for entry in entries:
        group = file.create_group(f"{entry.path}/vars" if entry.path else "vars")
        for name, value in (entry.metadata or {}).items():
            group.attrs[name] = value
        yield entry, group


def _create(group: h5py.Group, key: str, value: Any) -> tuple[h5py.Dataset, np.dtype[Any]]:
    """Create an empty dataset for a tensor, as Keras would write it."""
    shape, dtype = _kind_of(value)
    kind = h5py.h5t.py_create(dtype, logical=True)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.Dataset(h5py.h5d.create(group.id, key.encode(), kind, space, _TENSOR))
    if dtype.name == "bfloat16":
        dataset.attrs["dtype"] = "bfloat16"
    return dataset, dtype


def _outside(written: dict[int, bytes], places: list[TensorLocation]) -> dict[int, bytes]:
    """Return the written pieces that no tensor will cover."""
    covered = {place.offset_bytes: place for place in places if place.size_bytes}
    return {offset: content for offset, content in sorted(written.items()) if offset not in covered}


class _Memory:
    """A sparse file in memory, which holds only the written pieces."""

    def __init__(self) -> None:
        self.size, self._at = 0, 0
        self.written: dict[int, bytes] = {}

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, content: Any) -> int:
        self.written[self._at] = bytes(content)
        self._at += len(content)
        self.size = max(self.size, self._at)
        return len(content)

    def read(self, size: int) -> bytes:
        content = bytearray(size)
        self.readinto(content)
        return bytes(content)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        for offset, content in self.written.items():
            begin, end = max(offset, self._at), min(offset + len(content), self._at + len(view))
            if begin < end:
                view[begin - self._at : end - self._at] = content[begin - offset : end - offset]
        self._at += len(view)
        return len(view)

    def truncate(self, size: int) -> int:
        self.size = size
        return size

    def flush(self) -> None:
        pass
