"""A training that was killed against one that was not, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from keras_candle.errors import CheckpointError
from keras_candle.verification.event_log import END, AttemptEvents
from keras_candle.verification.exact_values import differences, shown
from keras_candle.verification.final_state import FinalState, final_states

# How often a training was started, and where, is another thing each time, and so is its id.
_NOT_COMPARED = ("chain", "callbacks", "trackers")
_OWN = {"model": "own state", "random": "random numbers", "data": "data"}


@dataclass(frozen=True)
class Difference:
    """Something in which a training that was killed ended unlike the other.

    Attributes:
        kind: "directories", "history", "tensor", "callback", "own callback", "random numbers",
            "own state", "data", "position" or "memory".
        fit: which of the program's fits, as the report calls it.
        what: what of it.
        one: its value without kills.
        other: its value with them.
    """

    kind: str
    fit: str
    what: str
    one: str
    other: str


def compare(one: AttemptEvents, other: AttemptEvents) -> list[Difference]:
    """In what two trainings ended unlike each other.

    Args:
        one: what the ranks told of one that was not killed.
        other: what they told of the last start of the one that was.

    Returns:
        The first difference of each kind in each fit, those that tell most first.
    """
    here, there = one.directories, other.directories
    if list(here) != list(there):
        return [
            Difference("directories", "the program", "run directories", str([*here]), str([*there]))
        ]
    found: list[Difference] = []
    for name in here:
        try:
            ends = final_states(here[name]), final_states(there[name])
        except CheckpointError as error:
            return [Difference("directories", name, "checkpoints", "whole", str(error))]
        if len(ends[0]) != len(ends[1]):
            counts = (str(len(each)) for each in ends)
            found.append(Difference("directories", name, "fits that ended", *counts))
        for number, pair in enumerate(zip(*ends, strict=False)):
            found += _firsts(_of_fit(f"fit {number + 1} in {name}", *pair))
    return found or _firsts(_of_memory(one, other))


def _firsts(all_of_them: Iterator[Difference]) -> list[Difference]:
    firsts: dict[str, Difference] = {}
    for each in all_of_them:
        firsts.setdefault(each.kind, each)
    return list(firsts.values())


def _of_fit(fit: str, one: FinalState, other: FinalState) -> Iterator[Difference]:
    yield from _of_histories(fit, one, other)
    yield from _of_tensors(fit, one, other)
    for path, a, b in differences(_callbacks(one.state), _callbacks(other.state)):
        yield Difference("callback", fit, _dotted(path), shown(a), shown(b))
    for rank, (mine, its) in enumerate(zip(one.of_ranks, other.of_ranks, strict=False)):
        for path, a, b in differences(_by_name(mine["callbacks"]), _by_name(its["callbacks"])):
            what = f"{_dotted(path)} on rank {rank}"
            yield Difference("own callback", fit, what, shown(a), shown(b))
        for place, kind in _OWN.items():
            for path, a, b in differences(mine[place], its[place]):
                yield Difference(kind, fit, f"{_dotted(path)} on rank {rank}", shown(a), shown(b))
    for path, a, b in differences(_position(one.state), _position(other.state)):
        yield Difference("position", fit, _dotted(path), shown(a), shown(b))


def _of_histories(fit: str, one: FinalState, other: FinalState) -> Iterator[Difference]:
    """In the order of the epochs."""
    found = list(differences(_history(one.state), _history(other.state)))
    for path, a, b in sorted(found, key=lambda each: each[0][1] if len(each[0]) > 1 else 0):
        epoch = f" of epoch {path[1] + 1}" if len(path) > 1 else ""
        yield Difference("history", fit, f"{path[0]}{epoch}", shown(a), shown(b))


def _of_tensors(fit: str, one: FinalState, other: FinalState) -> Iterator[Difference]:
    for name, tensor in one.tensors.items():
        mine = other.tensors.get(name)
        if mine is None:
            yield Difference("tensor", fit, name, str(tensor), "missing")
        elif mine.digest != tensor.digest:
            path, a, b = next(differences(one.values(tensor), other.values(mine)))
            yield Difference("tensor", fit, f"{name}{path[-1]}", shown(a), shown(b))


def _history(state: Any) -> Any:
    of_history = [each for each in state["callbacks"] if each["kind"] == "History"]
    return of_history[0]["state"]["history"] if of_history else {}


def _position(state: Any) -> dict[str, Any]:
    plain = {name: value for name, value in state.items() if name not in _NOT_COMPARED}
    # How often a process began to read the data says nothing of what it read.
    position = {name: value for name, value in plain["position"].items() if name != "begun"}
    return {**plain, "position": position}


def _callbacks(state: Any) -> dict[str, Any]:
    return _by_name([each for each in state["callbacks"] if each["kind"] != "History"])


def _by_name(states: Any) -> dict[str, Any]:
    """The states of callbacks by their class; a second one of a class gets a number."""
    named: dict[str, Any] = {}
    for each in states:
        name = each["kind"].removeprefix("__main__.")
        same = sum(one.partition(" ")[0] == name for one in named)
        named[f"{name} {same + 1}" if same else name] = _shown(each["state"])
    return named


def _shown(state: Any) -> Any:
    """Without the kinds of the values of attributes, see `callback.object_state`."""
    if not isinstance(state, dict):
        return state
    return {
        name: each[-1] if isinstance(each, list) and each[:1] in (["value"], ["plain"]) else each
        for name, each in state.items()
    }


def _of_memory(one: AttemptEvents, other: AttemptEvents) -> Iterator[Difference]:
    """What `fit` left to the program: checkpoints are made before callbacks end."""
    for rank in one.ranks:
        for mine, its in zip(one.lines(END, rank), other.lines(END, rank), strict=False):
            fit = f"fit {mine['number'] + 1} in {mine['directory']}"
            for path, a, b in differences(mine["history"], its["history"]):
                what = f"{_dotted(path)} of the History on rank {rank}"
                yield Difference("memory", fit, what, shown(a), shown(b))
            for number, pair in enumerate(zip(mine["variables"], its["variables"], strict=False)):
                if pair[0][1] != pair[1][1]:
                    what = f"variable {number} ({pair[0][0]}) after fit on rank {rank}"
                    hashes = (f"hash {each[1]}" for each in pair)
                    yield Difference("memory", fit, what, *hashes)


def _dotted(path: tuple[Any, ...]) -> str:
    named = [f".{each}" if isinstance(each, str) else f"[{each}]" for each in path]
    return "".join(named).lstrip(".").replace("[[", "[").replace("]]", "]")
