"""The ordered chain around a model's train function, which nothing else writes.

`fit` looks `model.train_function` up before each call of it. The chain puts one function there,
which calls its links from the outermost to the innermost and then the function that Keras made.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

TrainFunction = Callable[[Any], Any]
Link = Callable[[TrainFunction, Any], Any]


class Place(enum.IntEnum):
    """The places in the chain, the outermost first.

    Attributes:
        RESUME: leaves out the steps that the checkpoint has, and with them all that is inside.
        TIMING: measures the step that is traced, the collectives of the links inside too.
        CONSENSUS: compares the ranks' states after a step, and lets none stop alone.
    """

    RESUME = 0
    TIMING = 1
    CONSENSUS = 2


class StepChain:
    """The links around one model's train function.

    A link is called as link(inner, iterator) and returns what inner(iterator) returns: the logs.

    Args:
        model: a keras model.
    """

    def __init__(self, model: Any) -> None:
        self._reference = ref(model)
        self._links: dict[Place, Link] = {}
        self._plain: Any = None

    @property
    def _model(self) -> Any:
        return self._reference()

    def put(self, place: Place, link: Link) -> None:
        """Put a link at its place, in the stead of one that is there."""
        self._links[place] = link
        self.install()

    def remove(self, place: Place) -> None:
        """Take the link at a place out, if there is one."""
        self._links.pop(place, None)
        if not self._links and self._model.train_function == self._run:
            self._model.train_function = self._plain

    def install(self) -> None:
        """Surround what stands in `model.train_function`, such as what Keras has just made."""
        if self._links and self._model.train_function not in (None, self._run):
            self._plain, self._model.train_function = self._model.train_function, self._run

    def take(self) -> Any:
        """Return the function that Keras made, or None, and forget it: the next is traced anew."""
        plain = self._model.train_function
        if plain == self._run:
            plain = self._plain
        self._plain = self._model.train_function = None
        return plain

    def restore(self, plain: Any) -> None:
        """Put back what `take` returned."""
        self._model.train_function = plain
        self.install()

    def _run(self, iterator: Any) -> Any:
        return self._call(sorted(self._links), iterator)

    def _call(self, places: list[Place], iterator: Any) -> Any:
        if not places:
            return self._plain(iterator)
        link = self._links.get(places[0])
        inner = places[1:]
        if link is None:  # taken out by one outside of it
            return self._call(inner, iterator)
        return link(lambda iterator: self._call(inner, iterator), iterator)


_chains: WeakKeyDictionary[Any, StepChain] = WeakKeyDictionary()


def chain_of(model: Any) -> StepChain:
    """Return the chain of a model, which is made when it is first asked for."""
    found = _chains.get(model)
    if found is None:
        found = _chains[model] = StepChain(model)
    return found
