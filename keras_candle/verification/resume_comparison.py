"""Compare a training that was killed with one that was not, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from keras_candle.errors import CheckpointError
from keras_candle.verification.event_log import END, AttemptEvents
from keras_candle.verification.exact_values import differences, shown
from keras_candle.verification.final_state import FinalState, final_states

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
