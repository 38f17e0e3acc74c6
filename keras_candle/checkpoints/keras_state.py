"""Collect and load the state that Keras saves of a model, object by object, without a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_candle.errors import CheckpointError
from keras_candle.keras_private.saving import DiskIOStore, H5IOStore, load_state, save_state


@dataclass(frozen=True)
class StateEntry:
    """The saved values of one object that Keras saves, such as a layer or an optimizer.

    Attributes:
        path: its path in Keras's file, such as "layers/dense"; "" for the model itself.
        metadata: its attributes in that file.
        owner_id: `id` of the object.
        values: its variables, copies of them or anything else that it saves, by its keys.
    """

    path: str
    metadata: dict[str, Any] | None
    owner_id: int
    values: dict[str, Any] = field(default_factory=dict)


def entries_of(model: Any, skip: Iterable[Any] = ()) -> list[StateEntry]:
    """Return an entry for every object of a model that Keras saves, in Keras's order.

    Args:
        model: the model.
        skip: objects to leave out together with their parts.
    """
    visited = _Visited(id(each) for each in skip)
    recorder = _Recorder(visited)
    save_state(model, recorder, None, visited)
    return recorder.entries


def load_entries(
    model: Any, values: Mapping[str, Mapping[str, Any]], skip: Iterable[Any] = ()
) -> None:
    """Let each object of a model load its values, as Keras does with a file.

    Args:
        model: the model.
        values: by the entries' paths.
        skip: as in `entries_of`.

    Raises:
        CheckpointError: naming the object that cannot load its values.
    """
    _load(model, _Values(values), None, {id(each) for each in skip})


def read_assets(model: Any) -> dict[str, bytes] | None:
    """Return the layers' assets, such as a vocabulary: file content by relative path.

    None where no layer has assets.
    """
    with tempfile.TemporaryDirectory() as work:
        store = _Assets(Path(work))
        save_state(model, None, store, set())
        paths = [path for path in Path(work).rglob("*") if path.is_file()]
        files = {path.relative_to(work).as_posix(): path.read_bytes() for path in paths}
    return files if store.asked else None


def load_assets(model: Any, files: Mapping[str, bytes]) -> None:
    """Let layers load the assets of `read_assets`.

    Raises:
        CheckpointError: naming the layer that cannot load them.
    """
    with tempfile.TemporaryDirectory() as work:
        write_files(Path(work), files)
        _load(model, None, _Assets(Path(work)), set())


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by relative path; the folder is created with the first one."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _load(model: Any, weights: Any, assets: Any, visited: set[int]) -> None:
    for owner, cause in load_state(model, weights, assets, visited):
        name = getattr(owner, "name", type(owner).__name__)
        raise CheckpointError(f"{name} cannot load what it saved ({cause}).") from cause


class _Visited(set[int]):
    """The ids of saved objects; Keras looks each one up right before it saves it."""

    latest = 0

    def __contains__(self, key: object) -> bool:
        self.latest = int(key)  # type: ignore[call-overload]
        return super().__contains__(key)


class _Assets(DiskIOStore):  # type: ignore[misc]
    """A store of assets for Keras that uses a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.asked = folder, False

    def make(self, path: str) -> str:
        self.asked = True
        place = self._folder / path
        place.mkdir(parents=True, exist_ok=True)
        return str(place)

    get = make

    def has_path(self, path: str) -> bool:
        return (self._folder / path).exists()


class _Recorder(H5IOStore):  # type: ignore[misc]
    """A store for Keras that records entries instead of writing a file."""

    def __init__(self, visited: _Visited) -> None:
        self.entries: list[StateEntry] = []
        self._visited = visited

    def __bool__(self) -> bool:
        return True

    def make(self, path: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        entry = StateEntry(path, metadata, self._visited.latest, _Saved())
        self.entries.append(entry)
        return entry.values


class _Saved(dict[str, Any]):
    """The saved values of an object: variables and tensors as they are, the rest as arrays."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value if hasattr(value, "dtype") else np.asarray(value))


class _Values(H5IOStore):  # type: ignore[misc]
    """A store for Keras that reads values instead of a file."""

    def __init__(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        self._values = values

    def __bool__(self) -> bool:
        return True

    def get(self, path: str) -> Mapping[str, Any]:
        return _Arrays(self._values.get(path, {}))

    def has_path(self, path: str) -> bool:
        return any(each == path or each.startswith(f"{path}/") for each in self._values)


class _Arrays(Mapping[str, Any]):
    """Values that are converted to arrays on access."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return keras.ops.convert_to_numpy(self._values[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True)
class Sources:
    """The origins of a model's saved values.

    Attributes:
        entries: all entries that Keras saves, by path.
        variables: by (path, key), the variable of a value that is one or a copy of one.
        compute: returns the current remaining values, by (path, key).
        skip: optimizers that save only variables.
    """

    entries: Mapping[str, StateEntry]
    variables: Mapping[tuple[str, str], Any]
    compute: Callable[[], dict[tuple[str, str], Any]]
    skip: Sequence[Any]


NO_SOURCES = Sources({}, {}, dict, ())


def sources_of(model: Any, optimizers: Iterable[Any] = ()) -> Sources:
    """Find the origins of the values that Keras would save of a model.

    Args:
        model: the model.
        optimizers: the optimizers whose variables Keras saves as numbered copies.
    """
    owners = {id(each): each for each in optimizers}
    entries = {entry.path: entry for entry in entries_of(model)}
    variables = {
        (path, key): variable
        for path, entry in entries.items()
        for key, value in entry.values.items()
        if (variable := _variable(owners.get(entry.owner_id), entry, key, value)) is not None
    }
    known = all((path, key) in variables for path, key in _saved_by(entries, owners))
    skip = list(owners.values()) if known else []

    def compute() -> dict[tuple[str, str], Any]:
        return {
            (entry.path, key): value
            for entry in entries_of(model, skip)
            for key, value in entry.values.items()
            if (entry.path, key) not in variables
        }

    return Sources(entries, variables, compute, skip)


def _saved_by(
    entries: Mapping[str, StateEntry], owners: Mapping[int, Any]
) -> Iterator[tuple[str, str]]:
    for path, entry in entries.items():
        if entry.owner_id in owners:
            yield from ((path, key) for key in entry.values)


def _variable(owner: Any, entry: StateEntry, key: str, value: Any) -> Any:
    if hasattr(value, "assign"):
        return value
    if owner is None or not key.isdecimal() or len(owner.variables) != len(entry.values):
        return None
    variable = owner.variables[int(key)]
    return variable if tuple(variable.shape) == tuple(value.shape) else None
