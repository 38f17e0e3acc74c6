"""The state of one user object, a callback or a PyDataset, as plain values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any

from keras_candle import random_state
from keras_candle.checkpoints.plain import is_plain, mark
from keras_candle.errors import CandleError
from keras_candle.resume.object_state import (
    Capture,
    Restoration,
    attributes_of,
    is_installed,
    take_safely,
)

Outside = Collection[int]
# Before the path of a generator, among the names of attributes.
_DRAWN = "generator "


class OwnState:
    """The state of one object: of its `get_state()`, else its changed attributes and generators.

    An object with `get_state()` and `set_state(state)` defines its own state. For any other, the
    state is the attributes that have changed since construction of this class, and the random
    number generators from which the object draws.

    Args:
        owner: the object.
        outside: see `Capture`.
        attributes: returns the attributes of `owner` that may be its state.
    """

    def __init__(
        self,
        owner: Any,
        outside: Outside,
        attributes: Callable[[Any], list[tuple[str, Any]]] = attributes_of,
    ) -> None:
        self.owner, self._attributes = owner, attributes
        # Attributes that `fit` does not change may differ between two starts.
        self._before: dict[str, str] = {}
        self._before = {name: mark(each) for name, each in self._all(outside, copies=False)}

    @property
    def kind(self) -> str:
        """The name of the owner's class."""
        return f"{type(self.owner).__module__}.{type(self.owner).__qualname__}"

    def take(self, outside: Outside) -> dict[str, Any]:
        """Return the state.

        Raises:
            CandleError: when `get_state()` returns something that is not a plain value.
        """
        if _has_protocol(self.owner):
            return {"kind": self.kind, "changes": False, "state": self._given()}
        capture = Capture(outside)
        changed = {name: take_safely(capture, each, name) for name, each in self._changed(outside)}
        return {"kind": self.kind, "changes": True, "state": {**changed, **self._drawn(outside)}}

    def mark(self, outside: Outside) -> str:
        """Return a digest that changes with the state."""
        return mark(dict(self._all(outside, copies=False)))

    def restore(self, taken: dict[str, Any], outside: Outside) -> dict[str, str]:
        """Restore a state of `take`.

        Returns:
            By path, why a state could not be restored.
        """
        if _has_protocol(self.owner) or not taken["changes"]:
            # "given": of format 1, which does not record whether it came from get_state().
            if _has_protocol(self.owner) and ("given" in taken or not taken["changes"]):
                self.owner.set_state(taken.get("given", taken["state"]))
                return {}
            return {self.kind: "it has get_state() in one of checkpoint and script, not in both"}
        restoration, path = Restoration(type(self.owner)), type(self.owner).__name__
        state: dict[str, Any] = taken["state"]
        attributes = [[name, each] for name, each in state.items() if not name.startswith(_DRAWN)]
        restoration.set_attributes(self.owner, attributes, path)
        drawn = {name: each for name, each in state.items() if name.startswith(_DRAWN)}
        there = random_state.find_generators(self.owner, outside) if drawn else {}
        for name, each in drawn.items():
            place = name.removeprefix(_DRAWN)
            if place in there:
                restoration.put(each, there[place], f"{path}.{place}")
            else:
                restoration.lost[f"{path}.{place}"] = "the object has no generator there"
        return restoration.lost

    def unsavable(self, outside: Outside) -> dict[str, str]:
        """Return the path and type of each object whose state cannot be saved."""
        if _has_protocol(self.owner) or is_installed(type(self.owner)):
            return {}
        capture = Capture(outside, copies=False)
        for name, value in self._attributes(self.owner):
            take_safely(capture, value, f"{type(self.owner).__name__}.{name}")
        return capture.lost

    def _given(self) -> Any:
        state = self.owner.get_state()
        if not is_plain(state):
            raise CandleError(
                f"get_state() of {self.kind} returned {state!r:.200}, expected numbers, text, "
                "NumPy arrays, lists, tuples and dicts."
            )
        return copy.deepcopy(state)

    def _all(self, outside: Outside, *, copies: bool) -> list[tuple[str, Any]]:
        if _has_protocol(self.owner):
            return []
        found = [
            (name, take_safely(Capture(outside, copies=copies), value, name))
            for name, value in self._attributes(self.owner)
        ]
        return [*found, *self._generators(outside)]

    def _changed(self, outside: Outside) -> list[tuple[str, Any]]:
        return [
            (name, value)
            for name, value in self._attributes(self.owner)
            if mark(take_safely(Capture(outside, copies=False), value, name))
            != self._before.get(name)
        ]

    def _drawn(self, outside: Outside) -> dict[str, list[Any]]:
        return {
            name: state
            for name, state in self._generators(outside)
            if mark(state) != self._before.get(name)
        }

    def _generators(self, outside: Outside) -> list[tuple[str, list[Any]]]:
        """Return the states of the owner's generators, including those in no attribute."""
        if is_installed(type(self.owner)):
            return []
        found = random_state.find_generators(self.owner, outside)
        return [
            (f"{_DRAWN}{path}", ["generator", 0, random_state.get_state(each)])
            for path, each in found.items()
        ]


def _has_protocol(owner: Any) -> bool:
    return callable(getattr(owner, "get_state", None)) and callable(
        getattr(owner, "set_state", None)
    )
