"""Read and verify a checkpoint's shared and per-rank state, without a model."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints import manifest
from keras_candle.checkpoints.manifest import inside
from keras_candle.checkpoints.plain import decode
from keras_candle.errors import CheckpointError

STATE, RANKS = "state.json", "ranks.zip"
FORMAT = 3
"""Format of the written state. A state without a format is of format 1."""
_COUNT, _INTEGER, _FLAG, _ANY = "a count", "a whole number", "True or False", "anything"
_POSITION = {"passes": _COUNT, "taken": _COUNT, "begun": _COUNT, "order": _ANY}
_SHARED_1: dict[str, Any] = {
    "fit": _COUNT,
    "step": _COUNT,
    "epoch": _COUNT,
    "in_epoch": _COUNT,
    "epochs": _COUNT,
    "finished": _FLAG,
    "ends": [_COUNT],
    "position": _POSITION,
    "can_go_on": _FLAG,
    "before_epoch": _COUNT,
    "schedule_position": _INTEGER,
    "schedule_iterations": _COUNT,
    "ranks": _COUNT,
    "chain": [{"step": _COUNT, "ranks": _COUNT}],
    "identity": {},
    "best": [_ANY],
    "monitor": {},
    "callbacks": [{"kind": _ANY, "state": _ANY}],
    "trackers": {},
}
_SHARED_2: dict[str, Any] = {
    **_SHARED_1,
    "optimizers": [{"kind": _ANY, "built": _ANY}],
    "compiled": {"trained": [_FLAG], "arguments": _ANY, "obstacle": _ANY},
    "identity": {"architecture": _ANY},
    "settings": {"epoch": {}, "compile": {}, "options": {}, "versions": {}},
}
# Format 3 differs in its files: one for all ranks' own states.
_SHARED = {1: _SHARED_1, 2: _SHARED_2, 3: _SHARED_2}
_OF_RANK: dict[str, Any] = {
    "model": {"seeds": [_ANY], "metrics": [_ANY], "local": {}},
    "callbacks": [_ANY],
    "random": {"python": _ANY, "numpy": _ANY, "keras": _ANY, "torch": _ANY},
    "data": {},
}


def rank_file(rank: int) -> str:
    """Return the name of one rank's state in `RANKS`; up to format 2, of a file.

    Example:
        >>> rank_file(3)
        'rank-00003.npz'
    """
    return f"rank-{rank:05d}.npz"


def read_state(folder: Path) -> dict[str, Any]:
    """Read the state that all ranks share from a whole checkpoint.

    Raises:
        CheckpointError: when it cannot be read or has a wrong form.
    """

    def read() -> Any:
        text = inside(folder, STATE).read_text()
        beside = folder / arrays_of(STATE)
        arrays: dict[str, NDArray[Any]] = {}
        if os.path.lexists(beside):
            arrays = _from_npz(inside(folder, beside.name).read_bytes())
        return decode(json.loads(text), arrays)

    state: dict[str, Any] = _checked(folder / STATE, read, find_error_in_state)
    return state


def read_ranks(folder: Path, ranks: Iterable[int]) -> list[dict[str, Any]]:
    """Read the states of some ranks from a whole checkpoint, and of their file only these parts.

    Args:
        folder: the checkpoint.
        ranks: the ranks.

    Returns:
        The states, in the order of `ranks`.

    Raises:
        CheckpointError: when one is missing, cannot be read or has a wrong form.
    """
    names = [rank_file(rank) for rank in ranks]
    if not os.path.lexists(folder / RANKS):  # up to format 2, each rank has a file of its own
        return [_read_rank(folder / name, inside(folder, name).read_bytes) for name in names]
    path = folder / RANKS
    with _checked(path, lambda: zipfile.ZipFile(inside(folder, RANKS)), lambda _: "") as parts:
        missing = set(names) - set(parts.namelist())
        if missing:
            raise CheckpointError(f"{path / min(missing)} is missing")
        return [_read_rank(path / name, partial(parts.read, name)) for name in names]


def _read_rank(path: Path, content: Callable[[], bytes]) -> dict[str, Any]:
    def read() -> Any:
        arrays = _from_npz(content())
        return decode(json.loads(arrays.pop("json").tobytes()), arrays)

    own: dict[str, Any] = _checked(path, read, find_error_in_rank)
    return own


def find_damage(folder: Path) -> list[str]:
    """Find the damage that prevents resuming from a checkpoint.

    Args:
        folder: the checkpoint.

    Returns:
        A line for each tensor and file that is missing, changed or malformed; empty for a whole
        checkpoint.
    """
    damage = manifest.find_damage(folder)
    if damage:
        return damage
    try:
        found, state = manifest.read(folder), read_state(folder)
        facts = found.facts
        for tensor in found.tensors:
            if tensor.size_bytes != _size_bytes(tensor):
                return [f"{folder}: tensor {tensor} has {tensor.size_bytes} bytes"]
        for name, value in (("step", state["step"]), ("ranks", state["ranks"])):
            if facts.get(name) != value:
                return [f"{folder / STATE}: {name} is {value}, the manifest's {facts.get(name)}"]
        read_ranks(folder, range(state["ranks"]))
    except CheckpointError as error:
        return [str(error)]
    return []


def _size_bytes(tensor: manifest.Tensor) -> int:
    try:
        return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
    except TypeError:
        return -1


def _checked(path: Path, read: Callable[[], Any], find_error: Callable[[Any], str]) -> Any:
    """Read a value and check its form."""
    try:
        found = read()
        problem = find_error(found)
    except CheckpointError:
        raise
    except OSError as cause:
        raise CheckpointError(f"{path} cannot be read ({cause})") from cause
    except Exception as cause:  # whatever JSON, NumPy and zip raise for malformed files
        raise CheckpointError(f"{path} is damaged: {type(cause).__name__}: {cause}") from cause
    if problem:
        raise CheckpointError(f"{path} is damaged: {problem}")
    return found


def arrays_of(name: str) -> str:
    """Return the name of the file with the arrays of a JSON file."""
    return f"{name}.npz"


def _from_npz(content: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def find_error_in_state(state: Any) -> str:
    """Return the first error in the form of the shared state; empty for none.

    Example:
        >>> find_error_in_state({"format": 4})
        'its format is 4, expected at most 3: it was written by a later version of keras_candle'
    """
    if not isinstance(state, Mapping):
        return f"it is {type(state).__name__}, expected a dict"
    version = state.get("format", 1)
    if version not in _SHARED:
        return (
            f"its format is {version!r:.80}, expected at most {FORMAT}: it was written by a later "
            "version of keras_candle"
        )
    return _mismatch(state, _SHARED[version], "") or _contradiction(state)


def _contradiction(state: Mapping[str, Any]) -> str:
    if len(state["ends"]) != state["fit"] + 1 or state["ends"][-1] != state["step"]:
        return f"its ends are {state['ends']} in fit number {state['fit'] + 1}"
    if set(state["position"]) != set(_POSITION):
        return f"its position has {sorted(state['position'])}, expected {sorted(_POSITION)}"
    if not all(isinstance(each, float | int | np.number) for each in state["monitor"].values()):
        return f"its monitor is {state['monitor']!r:.80}, expected numbers"
    return ""


def find_error_in_rank(own: Any) -> str:
    """Return the first error in the form of one rank's state; empty for none."""
    return _mismatch(own, _OF_RANK, "")


def _mismatch(value: Any, expected: Any, where: str) -> str:
    """Return the first difference between a value and its expected form; empty for none."""
    if isinstance(expected, dict):
        return _mismatch_of_dict(value, expected, where)
    if isinstance(expected, list):
        if not isinstance(value, list | tuple):
            return f"{where} is {type(value).__name__}, expected a list"
        problems = (_mismatch(one, expected[0], f"{where}[{i}]") for i, one in enumerate(value))
        return next(filter(None, problems), "")
    return "" if _matches(value, expected) else f"{where} is {value!r:.80}, expected {expected}"


def _mismatch_of_dict(value: Any, expected: dict[str, Any], where: str) -> str:
    if not isinstance(value, dict):
        return f"{where or 'it'} is {type(value).__name__}, expected a dict"
    for key, each in expected.items():
        path = f"{where}.{key}" if where else key
        problem = _mismatch(value[key], each, path) if key in value else f"{path} is missing"
        if problem:
            return problem
    return ""


def _matches(value: Any, kind: str) -> bool:
    if kind == _FLAG:
        return isinstance(value, bool | np.bool_)
    if kind in (_COUNT, _INTEGER):
        is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return is_integer and (kind == _INTEGER or int(value) >= 0)
    return True
