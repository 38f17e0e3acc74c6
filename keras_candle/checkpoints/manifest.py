"""The manifest of a checkpoint: a hash of every tensor and file as written.

HDF5 detects no flipped bit, and a truncated file only by luck. The manifest is written last, so a
checkpoint without one is not whole.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from keras_candle.errors import CheckpointError

NAME = "MANIFEST.json"
_FORMAT = 1
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class Tensor:
    """A tensor that is contiguous in a file.

    Attributes:
        name: Keras's name of it, such as "layers/dense/vars/0".
        file: the file's name in the checkpoint.
        offset_bytes: its offset in the file.
        size_bytes: its size.
        shape: its shape.
        dtype: its dtype's name.
        digest: XXH3 of its bytes, 64 bits as 16 hexadecimal digits.
    """

    name: str
    file: str
    offset_bytes: int
    size_bytes: int
    shape: tuple[int, ...]
    dtype: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name} ({self.dtype} {list(self.shape)})"


@dataclass(frozen=True)
class File:
    """A file of a checkpoint.

    Attributes:
        name: its path in the checkpoint, with forward slashes.
        size_bytes: its size.
        digest: XXH3 of the bytes that no tensor covers.
    """

    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's files and tensors with their hashes, and further facts.

    Attributes:
        files: all files except the manifest.
        tensors: the tensors that are hashed one by one.
        facts: JSON values, such as the step.
    """

    files: tuple[File, ...]
    tensors: tuple[Tensor, ...]
    facts: Mapping[str, Any]


def digest(content: Any) -> str:
    """Return the XXH3 hash (64 bits) of an object with the buffer protocol.

    Source: Collet, xxHash, https://github.com/Cyan4973/xxHash.

    Example:
        >>> digest(b"")
        '2d06800538d394c2'
    """
    return xxhash.xxh3_64_hexdigest(content)


def describe(folder: Path, tensors: Iterable[Tensor], facts: Mapping[str, Any]) -> Manifest:
    """Return the manifest of files that have just been written.

    Args:
        folder: the checkpoint.
        tensors: tensors hashed in memory, so that an error of writing is detected.
        facts: see `Manifest`.
    """
    tensors = tuple(tensors)
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != NAME
    )
    files = tuple(_describe(folder / name, name, tensors) for name in names)
    return Manifest(files, tensors, dict(facts))


def _describe(path: Path, name: str, tensors: Iterable[Tensor]) -> File:
    size_bytes = path.stat().st_size
    with open(path, "rb") as file:
        return File(name, size_bytes, _digest_of(file, _gaps(name, size_bytes, tensors)))


def to_json(manifest: Manifest) -> bytes:
    """Return the content of MANIFEST.json, with a hash of itself."""
    content = {"format": _FORMAT, **asdict(manifest)}
    return json.dumps({"digest": _digest_of_json(content), **content}, indent=1).encode()


def read(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint.

    Raises:
        CheckpointError: when it is missing, damaged, or of a later version.
    """
    if not os.path.lexists(folder / NAME):
        raise CheckpointError(f"{folder} has no {NAME}: it was never finished")
    path = inside(folder, NAME)
    try:
        content = json.loads(path.read_bytes())
        recorded = content.pop("digest")
        if recorded != _digest_of_json(content):
            raise CheckpointError(f"{path} is damaged: it differs from what was written")
        if content["format"] != _FORMAT:
            raise CheckpointError(
                f"{path} has format {content['format']}, expected {_FORMAT}: it was written by "
                "another version of keras_candle"
            )
        tensors = [Tensor(**{**each, "shape": tuple(each["shape"])}) for each in content["tensors"]]
        files = [File(**each) for each in content["files"]]
        found = Manifest(tuple(files), tuple(tensors), content["facts"])
        problem = _contradiction(found)
    except OSError as cause:
        raise CheckpointError(f"{path} cannot be read ({cause})") from cause
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise CheckpointError(f"{path} is damaged: {type(cause).__name__}: {cause}") from cause
    if problem:
        raise CheckpointError(f"{path} is damaged: {problem}")
    return found


def inside(folder: Path, name: str) -> Path:
    """Return the path of a regular file in a folder, without opening it.

    Args:
        folder: a checkpoint.
        name: its relative path, with forward slashes.

    Raises:
        CheckpointError: when there is no such file, or its path or a symbolic link leads out of
            the folder.
    """
    path = folder / name
    try:
        leaves = not path.resolve().is_relative_to(folder.resolve())
        if leaves or ".." in Path(name).parts or Path(name).is_absolute():
            raise CheckpointError(f"{path} leads out of the checkpoint, expected a file in it")
        if not os.path.lexists(path):
            raise CheckpointError(f"{path} is missing")
        if not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(f"{path} is not a regular file")
    except (OSError, RuntimeError, ValueError) as cause:  # RuntimeError: a link to itself
        raise CheckpointError(f"{path} cannot be read ({cause})") from cause
    return path


def _contradiction(manifest: Manifest) -> str:
    """Return the first contradiction within a manifest; empty for none."""
    if not isinstance(manifest.facts, dict):
        return f"its facts are {manifest.facts!r:.80}, expected a dict"
    entries: list[File | Tensor] = [*manifest.files, *manifest.tensors]
    for entry in entries:
        for key, value in vars(entry).items():
            if not (_are_counts(key, value) if key in _COUNTS else type(value) is str):
                return f"{key} of {entry.name!r:.80} is {value!r:.80}"
    if len({(type(entry), entry.name) for entry in entries}) < len(entries):
        return "a file or tensor is listed twice"
    return _misplaced(manifest)


_COUNTS = ("offset_bytes", "shape", "size_bytes")


def _are_counts(key: str, value: Any) -> bool:
    counts = value if key == "shape" else (value,)
    return all(type(each) is int and each >= 0 for each in counts)


def _misplaced(manifest: Manifest) -> str:
    """Return the first tensor that is outside of its file or overlaps; empty for none."""
    sizes = {file.name: file.size_bytes for file in manifest.files}
    ends = dict.fromkeys(sizes, 0)
    for tensor in sorted(manifest.tensors, key=lambda each: each.offset_bytes):
        end = tensor.offset_bytes + tensor.size_bytes
        if end > sizes.get(tensor.file, -1):
            return f"tensor {tensor} is outside of {tensor.file!r:.80}"
        if tensor.size_bytes and tensor.offset_bytes < ends[tensor.file]:
            return f"tensor {tensor} overlaps another one"
        ends[tensor.file] = max(ends[tensor.file], end)
    return ""


def find_damage(folder: Path) -> list[str]:
    """Find the tensors and files of a checkpoint that differ from what was written.

    Args:
        folder: the checkpoint.

    Returns:
        A line for each tensor and file that is missing or changed; empty for a whole checkpoint.
    """
    try:
        manifest = read(folder)
    except CheckpointError as error:
        return [str(error)]
    return [line for file in manifest.files for line in _damage(folder, file, manifest.tensors)]


def _damage(folder: Path, expected: File, tensors: Sequence[Tensor]) -> Iterator[str]:
    try:
        path = inside(folder, expected.name)
        size_bytes = path.stat().st_size
        if size_bytes != expected.size_bytes:
            yield f"{path} has {size_bytes} bytes, expected {expected.size_bytes}"
            return
        own = [tensor for tensor in tensors if tensor.file == expected.name]
        with open(path, "rb") as file:
            for tensor in own:
                if _digest_of(file, [(tensor.offset_bytes, tensor.size_bytes)]) != tensor.digest:
                    yield f"{path}: tensor {tensor} differs from what was written"
            if _digest_of(file, _gaps(expected.name, size_bytes, own)) != expected.digest:
                where = "outside of its tensors it" if own else "it"
                yield f"{path}: {where} differs from what was written"
    except CheckpointError as error:
        yield str(error)
    except OSError as cause:
        yield f"{folder / expected.name} cannot be read ({cause})"


def _gaps(name: str, size_bytes: int, tensors: Iterable[Tensor]) -> Iterator[tuple[int, int]]:
    """Yield (offset, size) of the bytes of a file that no tensor covers."""
    at = 0
    for tensor in sorted(
        (each for each in tensors if each.file == name), key=lambda each: each.offset_bytes
    ):
        yield at, tensor.offset_bytes - at
        at = tensor.offset_bytes + tensor.size_bytes
    yield at, size_bytes - at


def _digest_of(file: BinaryIO, parts: Iterable[tuple[int, int]]) -> str:
    hashed = xxhash.xxh3_64()
    for offset, size in parts:
        file.seek(offset)
        left = size
        while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
            hashed.update(chunk)
            left -= len(chunk)
    return hashed.hexdigest()


def _digest_of_json(content: Any) -> str:
    return digest(json.dumps(content, sort_keys=True).encode())
