"""What Keras would save of a model, object by object, without saving it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras.src.saving import saving_lib


@dataclass(frozen=True)
class Entry:
    """The variables of a layer, an optimizer, a metric or another object that Keras saves.

    Attributes:
        path: where Keras puts it in a file, such as "layers/dense"; "" for the model itself.
        metadata: the attributes that it gets there.
        values: its variables, or copies of them, by the key that it gives them.
    """

    path: str
    metadata: dict[str, Any] | None
    values: dict[str, Any] = field(default_factory=dict)


def entries_of(model: Any) -> list[Entry]:
    """Every object of a model that has something to save, in Keras's order."""
    recorder = _Recorder()
    saving_lib._save_state(
        model,
        weights_store=recorder,
        assets_store=None,
        inner_path="",
        visited_saveables=set(),
    )
    return [entry for entry in recorder.entries if entry.values or entry.metadata]


def write_assets(model: Any, folder: Path) -> None:
    """Write what layers keep in files of their own, such as a vocabulary, as Keras does.

    Args:
        model: the model.
        folder: is made when there is something to write.
    """
    saving_lib._save_state(
        model,
        weights_store=None,
        assets_store=_Assets(folder),
        inner_path="",
        visited_saveables=set(),
    )


class _Assets(saving_lib.DiskIOStore):  # type: ignore[misc]
    """Stands where Keras expects its store of assets."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, path: str) -> str:
        place = self._folder / path
        place.mkdir(parents=True, exist_ok=True)
        return str(place)


class _Recorder(saving_lib.H5IOStore):  # type: ignore[misc]
    """Stands where Keras expects a file."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def __bool__(self) -> bool:
        return True

    def make(self, path: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        entry = Entry(path, metadata)
        self.entries.append(entry)
        return entry.values


def getter(model: Any, entry: Entry, key: str) -> Callable[[], Any]:
    """What returns a value of an entry as it is now: its variable where it is one.

    An optimizer hands over copies of its variables, numbered.
    """
    value = entry.values[key]
    if hasattr(value, "assign"):
        return lambda: value
    owner = owner_of(model, entry.path)
    variables = getattr(owner, "variables", ())
    if key.isdecimal() and len(variables) == len(entry.values):
        variable = variables[int(key)]
        if tuple(variable.shape) == tuple(value.shape):
            return lambda: variable
    path = entry.path

    def ask() -> Any:
        if owner is None:
            return next(each.values[key] for each in entries_of(model) if each.path == path)
        now: dict[str, Any] = {}
        owner.save_own_variables(now)
        return now[key]

    return ask


def owner_of(model: Any, path: str) -> Any:
    """The object of an entry, None where its path leads through a list."""
    owner = model
    for name in path.split("/") if path else ():
        owner = getattr(owner, name, None)
    return owner if hasattr(owner, "save_own_variables") else None
