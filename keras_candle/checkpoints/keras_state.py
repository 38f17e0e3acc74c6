"""What Keras saves of a model and loads into it, object by object, without a file."""

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
    """The variables of a layer, an optimizer, a metric or another object that Keras saves.

    Attributes:
        path: where Keras puts it in a file, such as "layers/dense"; "" for the model itself.
        metadata: the attributes that it gets there.
        owner_id: `id` of the object.
        values: its variables, copies of them or whatever it saves, by the key that it gives them.
    """

    path: str
    metadata: dict[str, Any] | None
    owner_id: int
    values: dict[str, Any] = field(default_factory=dict)


def entries_of(model: Any, skip: Iterable[Any] = ()) -> list[StateEntry]:
    """Every object of a model that Keras saves, in its order.

    Args:
        model: the model.
        skip: objects that are left out with all that belongs to them.
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
    """What layers keep in files of their own, such as a vocabulary: content by relative path.

    None where no layer has any.
    """
    with tempfile.TemporaryDirectory() as work:
        store = _Assets(Path(work))
        save_state(model, None, store, set())
        paths = [path for path in Path(work).rglob("*") if path.is_file()]
        files = {path.relative_to(work).as_posix(): path.read_bytes() for path in paths}
    return files if store.asked else None


def load_assets(model: Any, files: Mapping[str, bytes]) -> None:
    """Let layers read what `read_assets` returned.

    Raises:
        CheckpointError: naming the layer that cannot.
    """
    with tempfile.TemporaryDirectory() as work:
        write_files(Path(work), files)
        _load(model, None, _Assets(Path(work)), set())


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their paths in a folder, which is made when there is one."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _load(model: Any, weights: Any, assets: Any, visited: set[int]) -> None:
    for owner, cause in load_state(model, weights, assets, visited):
        name = getattr(owner, "name", type(owner).__name__)
        raise CheckpointError(f"{name} cannot load what it saved ({cause}).") from cause


class _Visited(set[int]):
    """The objects that Keras has saved. It asks here right before it saves one."""

    latest = 0

    def __contains__(self, key: object) -> bool:
        self.latest = int(key)  # type: ignore[call-overload]
        return super().__contains__(key)


class _Assets(DiskIOStore):  # type: ignore[misc]
    """Stands where Keras expects its store of assets."""

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
    """Stands where Keras expects a file to write."""

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
    """What an object saves: variables, tensors, and arrays of everything else."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value if hasattr(value, "dtype") else np.asarray(value))


class _Values(H5IOStore):  # type: ignore[misc]
    """Stands where Keras expects a file to read."""

    def __init__(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        self._values = values

    def __bool__(self) -> bool:
        return True

    def get(self, path: str) -> Mapping[str, Any]:
        return _Arrays(self._values.get(path, {}))

    def has_path(self, path: str) -> bool:
        return any(each == path or each.startswith(f"{path}/") for each in self._values)


class _Arrays(Mapping[str, Any]):
    """Values as arrays, made when they are asked for."""

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
    """Where the values of a model's entries come from.

    Attributes:
        entries: all that Keras saves, by path.
        variables: (path, key): the variable itself, where a value is one or a copy of one.
        compute: returns the others as they are now, by (path, key).
        skip: optimizers that have nothing else.
    """

    entries: Mapping[str, StateEntry]
    variables: Mapping[tuple[str, str], Any]
    compute: Callable[[], dict[tuple[str, str], Any]]
    skip: Sequence[Any]


NO_SOURCES = Sources({}, {}, dict, ())


def sources_of(model: Any, optimizers: Iterable[Any] = ()) -> Sources:
    """Where the values come from that Keras would save of a model.

    Args:
        model: the model.
        optimizers: those whose variables are saved as copies, numbered.
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
