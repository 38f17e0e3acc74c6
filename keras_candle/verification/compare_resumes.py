"""`python -m keras_candle.verification.compare_resumes WHOLE KILLED`: compare two final states."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - names NumPy's bfloat16 and float8
import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints.folder import CheckpointFolder
from keras_candle.checkpoints.manifest import Tensor, read
from keras_candle.checkpoints.reading import find_damage, read_ranks, read_state
from keras_candle.errors import CheckpointError
from keras_candle.run_directory import RunDirectory
from keras_candle.verification.event_log import END, FIT, AttemptEvents, read_attempt

# By the kinds of `fit_recorder.find_caveats`.
CAUSES: dict[str, str] = {
    "never": "resume='never' starts a new training each time",
    "unsaved": "{what} has attributes that cannot be saved: give it get_state() and set_state()",
    "stateless": (
        "{what} keeps nothing in its attributes: where it changes the training by another state, "
        "such as a global variable or a file, keep that in an attribute, or give it get_state() "
        "and set_state()"
    ),
    "function": (
        "state that the functions of {what} keep outside of them, such as in a global variable, is "
        "not saved: write a callback that keeps it in an attribute"
    ),
    "dataset": (
        "a {what} draws the same random numbers again only with seeds: "
        "shuffle(..., seed=...), and no np.random or random in its functions"
    ),
}
# By the kinds of `Difference`.
OF_DIFFERENCES: dict[str, str] = {
    "directories": (
        "a run directory must have the same name each time the program is started: leave time, "
        "random numbers and process ids out of it"
    ),
    "own callback": (
        "an attribute of a callback must follow from the training alone, not from the time, the "
        "process or how often it was started"
    ),
    "random numbers": (
        "the program draws from Python's or NumPy's global generator a different number of times, "
        "such as in a thread that reads data ahead, or when it starts"
    ),
}


def causes_of(kinds: Iterable[str], caveats: Sequence[Sequence[str]]) -> list[str]:
    """Return the probable causes of differences.

    Args:
        kinds: the kinds of the differences.
        caveats: (kind, what) of the fits that differ, see `fit_recorder.find_caveats`.

    Returns:
        A sentence for each, the most probable first.

    Example:
        >>> causes_of(["history"], [("never", "")])
        ["resume='never' starts a new training each time"]
    """
    found = [CAUSES[kind].format(what=what) for kind, what in caveats]
    found += [OF_DIFFERENCES[kind] for kind in kinds if kind in OF_DIFFERENCES]
    return list(dict.fromkeys(found))


# These differ each time: the number of attempts, their places, and tracker ids.
_NOT_COMPARED = ("chain", "callbacks", "trackers")
_OWN = {"model": "own state", "random": "random numbers", "data": "data"}


@dataclass(frozen=True)
class Difference:
    """A value in the final state that differs between a training with and without kills.

    Attributes:
        kind: "directories", "history", "tensor", "callback", "own callback", "random numbers",
            "own state", "data", "position" or "memory".
        fit: the name of the fit in the report.
        what: the name of the value.
        whole: its value without kills, as text.
        killed: its value with kills, as text.
    """

    kind: str
    fit: str
    what: str
    whole: str
    killed: str

    def to_json(self) -> dict[str, str]:
        """Return the difference as JSON values."""
        names = {"kind": self.kind, "fit": self.fit, "what": self.what}
        return {**names, "one": self.whole, "other": self.killed}


def compare(whole: AttemptEvents, killed: AttemptEvents) -> list[Difference]:
    """Find the differences between the final states of two trainings.

    Args:
        whole: the events of a training without kills.
        killed: the events of the last attempt of a training with kills.

    Returns:
        The first difference of each kind in each fit, the most informative kinds first.
    """
    paths = whole.directories, killed.directories
    names = str([*paths[0]]), str([*paths[1]])
    if names[0] != names[1]:
        return [Difference("directories", "the program", "run directories", *names)]
    found: list[Difference] = []
    for name in paths[0]:
        try:
            ends = final_states(paths[0][name]), final_states(paths[1][name])
        except CheckpointError as error:
            return [Difference("directories", name, "checkpoints", "whole", str(error))]
        if len(ends[0]) != len(ends[1]):
            counts = (str(len(each)) for each in ends)
            found.append(Difference("directories", name, "fits that ended", *counts))
        for number, pair in enumerate(zip(*ends, strict=False)):
            found += _firsts(_of_fit(f"fit {number + 1} in {name}", *pair))
    return found or _firsts(_of_memory(whole, killed))


def _firsts(found: Iterator[Difference]) -> list[Difference]:
    firsts: dict[str, Difference] = {}
    for each in found:
        firsts.setdefault(each.kind, each)
    return list(firsts.values())


def _of_fit(fit: str, whole: FinalState, killed: FinalState) -> Iterator[Difference]:
    yield from _of_histories(fit, whole, killed)
    yield from _of_tensors(fit, whole, killed)
    for path, a, b in differences(_callbacks(whole.state), _callbacks(killed.state)):
        yield Difference("callback", fit, _dotted(path), shown(a), shown(b))
    for rank, own in enumerate(zip(whole.of_ranks, killed.of_ranks, strict=False)):
        first, second = (_by_name(each["callbacks"]) for each in own)
        for path, a, b in differences(first, second):
            what = f"{_dotted(path)} on rank {rank}"
            yield Difference("own callback", fit, what, shown(a), shown(b))
        for place, kind in _OWN.items():
            for path, a, b in differences(own[0][place], own[1][place]):
                yield Difference(kind, fit, f"{_dotted(path)} on rank {rank}", shown(a), shown(b))
    for path, a, b in differences(_position(whole.state), _position(killed.state)):
        yield Difference("position", fit, _dotted(path), shown(a), shown(b))


def _of_histories(fit: str, whole: FinalState, killed: FinalState) -> Iterator[Difference]:
    """Differences of the histories, in the order of the epochs."""
    found = list(differences(_history(whole.state), _history(killed.state)))
    for path, a, b in sorted(found, key=lambda each: each[0][1] if len(each[0]) > 1 else 0):
        epoch = f" of epoch {path[1] + 1}" if len(path) > 1 else ""
        yield Difference("history", fit, f"{path[0]}{epoch}", shown(a), shown(b))


def _of_tensors(fit: str, whole: FinalState, killed: FinalState) -> Iterator[Difference]:
    for name, tensor in whole.tensors.items():
        found = killed.tensors.get(name)
        if found is None:
            yield Difference("tensor", fit, name, str(tensor), "missing")
        elif found.digest != tensor.digest:
            path, a, b = next(differences(whole.values(tensor), killed.values(found)))
            yield Difference("tensor", fit, f"{name}{path[-1]}", shown(a), shown(b))


def _history(state: Any) -> Any:
    of_history = [each for each in state["callbacks"] if each["kind"] == "History"]
    return of_history[0]["state"]["history"] if of_history else {}


def _position(state: Any) -> dict[str, Any]:
    plain = {name: value for name, value in state.items() if name not in _NOT_COMPARED}
    # How often a process began to read the data has no effect on the rows that it read.
    position = {name: value for name, value in plain["position"].items() if name != "begun"}
    return {**plain, "position": position}


def _callbacks(state: Any) -> dict[str, Any]:
    return _by_name([each for each in state["callbacks"] if each["kind"] != "History"])


def _by_name(states: Any) -> dict[str, Any]:
    """The states of callbacks by their class; a second one of a class gets a number."""
    named: dict[str, Any] = {}
    for each in states:
        name = each["kind"].removeprefix("__main__.")
        same = sum(known.partition(" ")[0] == name for known in named)
        named[f"{name} {same + 1}" if same else name] = _shown(each["state"])
    return named


def _shown(state: Any) -> Any:
    """The state without the kinds of attribute values, see `resume.object_state`."""
    if not isinstance(state, dict):
        return state
    return {
        name: each[-1] if isinstance(each, list) and each[:1] in (["value"], ["plain"]) else each
        for name, each in state.items()
    }


def _of_memory(whole: AttemptEvents, killed: AttemptEvents) -> Iterator[Difference]:
    """Differences in memory after `fit`: checkpoints are made before callbacks end."""
    for rank in whole.ranks:
        for first, second in zip(whole.lines(END, rank), killed.lines(END, rank), strict=False):
            fit = f"fit {first['number'] + 1} in {first['directory']}"
            for path, a, b in differences(first["history"], second["history"]):
                what = f"{_dotted(path)} of the History on rank {rank}"
                yield Difference("memory", fit, what, shown(a), shown(b))
            pairs = zip(first["variables"], second["variables"], strict=False)
            for number, pair in enumerate(pairs):
                if pair[0][1] != pair[1][1]:
                    what = f"variable {number} ({pair[0][0]}) after fit on rank {rank}"
                    hashes = (f"hash {each[1]}" for each in pair)
                    yield Difference("memory", fit, what, *hashes)


def _dotted(path: tuple[Any, ...]) -> str:
    named = [f".{each}" if isinstance(each, str) else f"[{each}]" for each in path]
    return "".join(named).lstrip(".").replace("[[", "[").replace("]]", "]")


@dataclass(frozen=True)
class FinalState:
    """The checkpoint with which a fit ended.

    Attributes:
        folder: the checkpoint's folder.
        tensors: by their names.
        state: the state that all ranks share.
        of_ranks: each rank's own state, by rank.
    """

    folder: Path
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    of_ranks: list[Mapping[str, Any]]

    def values(self, tensor: Tensor) -> NDArray[Any]:
        """Read the values of a tensor."""
        with open(self.folder / tensor.file, "rb") as file:
            file.seek(tensor.offset_bytes)
            content = file.read(tensor.size_bytes)
        return np.frombuffer(content, np.dtype(tensor.dtype)).reshape(tensor.shape)


def final_states(run_directory: Path) -> list[FinalState]:
    """Return the final states of all fits of a run directory, in their order.

    Raises:
        CheckpointError: when there is no whole checkpoint.
    """
    folder = CheckpointFolder(RunDirectory(run_directory).checkpoints, find_damage)
    damage: list[str] = []
    newest = folder.newest_whole(damage.append)
    if newest is None:
        raise CheckpointError(f"{folder.path} has no whole checkpoint. {' '.join(damage)}".strip())
    steps = read_state(folder.path_of(newest))["ends"]
    return [_end(folder.path_of(step)) for step in steps]


def _end(folder: Path) -> FinalState:
    state = read_state(folder)
    tensors = {each.name: each for each in read(folder).tensors}
    return FinalState(folder, tensors, state, list(read_ranks(folder, range(state["ranks"]))))


_LONGEST = 60
MISSING = type("Missing", (), {"__repr__": lambda _: "missing"})()
ValuePath = tuple[Any, ...]


def differences(a: Any, b: Any, path: ValuePath = ()) -> Iterator[tuple[ValuePath, Any, Any]]:
    """Find the paths at which two nested values differ.

    Args:
        a: numbers, text, arrays, and dicts, lists and tuples of them.
        b: the same kinds.
        path: the path of `a` and `b` themselves.

    Yields:
        The path and both values there; of an array its first number that differs.

    Example:
        >>> list(differences({"loss": [1.0, 2.0]}, {"loss": [1.0, 2.5]}))
        [(('loss', 1), 2.0, 2.5)]
    """
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            yield from differences(a.get(key, MISSING), b.get(key, MISSING), (*path, key))
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple):
        for place, pair in enumerate(zip_longest(a, b, fillvalue=MISSING)):
            yield from differences(*pair, (*path, place))
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        yield from _of_arrays(a, b, path)
    elif repr(a) != repr(b):
        yield path, a, b


def _of_arrays(a: Any, b: Any, path: ValuePath) -> Iterator[tuple[ValuePath, Any, Any]]:
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        yield path, f"{a.dtype} {list(a.shape)}", f"{b.dtype} {list(b.shape)}"
    elif a.tobytes() != b.tobytes():
        size = a.dtype.itemsize
        bits = [np.frombuffer(np.ascontiguousarray(each).tobytes(), f"V{size}") for each in (a, b)]
        first = int(np.flatnonzero(bits[0] != bits[1])[0])
        index = tuple(map(int, np.unravel_index(first, a.shape)))
        yield (*path, list(index)), a[index], b[index]


def shown(value: Any) -> str:
    """Return a value as text for a message, shortened to 60 characters."""
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def main(whole_folder: str, killed_folder: str) -> int:
    """Compare a training without kills and one with kills; write a JSON object to stdout.

    Args:
        whole_folder: event log of the training without kills.
        killed_folder: event log of the last attempt of the training with kills.

    Returns:
        0.
    """
    whole, killed = read_attempt(Path(whole_folder)), read_attempt(Path(killed_folder))
    found = compare(whole, killed)
    caveats = [caveat for line in whole.lines(FIT) for caveat in line["remarks"]]
    kinds = [each.kind for each in found]
    result = {
        "differences": [each.to_json() for each in found],
        "causes": causes_of(kinds, caveats) if found else [],
        "fits": sum(len(final_states(path)) for path in whole.directories.values()),
    }
    sys.stdout.write(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
