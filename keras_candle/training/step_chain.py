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
        RESUME: skips the steps that the checkpoint has, with all inner links.
        TIMING: measures the step that is traced, with the collectives of the inner links.
        CONSENSUS: compares the ranks' states after a step, and lets no rank stop alone.
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
        """Set the link at a place; it replaces an existing one."""
        self._links[place] = link
        self.install()

    def remove(self, place: Place) -> None:
        """Remove the link at a place, if there is one."""
        self._links.pop(place, None)
        if not self._links and self._model.train_function == self._run:
            self._model.train_function = self._plain

    def install(self) -> None:
        """Wrap the present `model.train_function`, such as a new one of Keras's, in the chain."""
        if self._links and self._model.train_function not in (None, self._run):
            self._plain, self._model.train_function = self._model.train_function, self._run

    def take(self) -> Any:
        """Return Keras's train function, or None, and drop it, so that Keras traces a new one."""
        plain = self._model.train_function
        if plain == self._run:
            plain = self._plain
        self._plain = self._model.train_function = None
        return plain

    def restore(self, plain: Any) -> None:
        """Restore the function that `take` returned."""
        self._model.train_function = plain
        self.install()

    def _run(self, iterator: Any) -> Any:
        return self._call(sorted(self._links), iterator)

    def _call(self, places: list[Place], iterator: Any) -> Any:
        if not places:
            return self._plain(iterator)
        link = self._links.get(places[0])
        inner = places[1:]
        if link is None:  # removed by an outer link
            return self._call(inner, iterator)
        return link(lambda iterator: self._call(inner, iterator), iterator)


_chains: WeakKeyDictionary[Any, StepChain] = WeakKeyDictionary()


def chain_of(model: Any) -> StepChain:
    """Return the chain of a model; the first call makes it."""
    found = _chains.get(model)
    if found is None:
        found = _chains[model] = StepChain(model)
    return found
