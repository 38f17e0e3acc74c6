"""The ordered chain around a model's train function, which nothing else writes.

`fit` looks `model.train_function` up before each call of it. The chain puts one function there,
which calls its links from the outermost to the innermost, as in the row "around_step" of
`fit_chain.ORDER`, and then the function that Keras made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

from keras_candle.training.fit_chain import ORDER, Place

TrainFunction = Callable[[Any], Any]
Link = Callable[[TrainFunction, Any], Any]
_PLACES = ORDER["around_step"]


class StepChain:
    """The links around one model's train function.

    A link is called as link(inner, iterator) and returns what inner(iterator) returns: the logs.

    Args:
        model: a keras model.
    """

    def __init__(self, model: Any) -> None:
        self._reference = ref(model)
        self._links: dict[Place, Link] = {}
        self._is_inside = False

    @property
    def _model(self) -> Any:
        return self._reference()

    def put(self, place: Place, link: Link) -> None:
        """Set the link at a place of the row "around_step"; it replaces an existing one.

        Raises:
            ValueError: for any other place.
        """
        if place not in _PLACES:
            raise ValueError(f"{place} is not in the order around a step, {_PLACES}")
        self._links[place] = link
        self.install()

    def remove(self, place: Place) -> None:
        """Remove the link at a place, if there is one."""
        self._links.pop(place, None)
        if not self._links and isinstance(self._model.train_function, _Surrounded):
            self._model.train_function = self._model.train_function.plain

    def install(self) -> None:
        """Surround the present `model.train_function`, such as one that Keras has just made."""
        train = self._model.train_function
        if self._links and train is not None and not isinstance(train, _Surrounded):
            self._model.train_function = _Surrounded(train, self)

    def take(self) -> Any:
        """Return Keras's train function, or None, and drop it, so that Keras traces a new one."""
        train, self._model.train_function = self._model.train_function, None
        return train.plain if isinstance(train, _Surrounded) else train

    def restore(self, plain: Any) -> None:
        """Restore the function that `take` returned."""
        self._model.train_function = plain
        self.install()

    def call(self, plain: TrainFunction, iterator: Any) -> Any:
        """Call a train function within the links, once where a program has surrounded it, too."""
        if self._is_inside:
            return plain(iterator)
        self._is_inside = True
        try:
            return self._call(self._places(), plain, iterator)
        finally:
            self._is_inside = False

    def _places(self) -> list[Place]:
        return [each for each in _PLACES if each in self._links]

    def _call(self, places: Sequence[Place], plain: TrainFunction, iterator: Any) -> Any:
        if not places:
            return plain(iterator)
        link, inner = self._links.get(places[0]), places[1:]
        if link is None:  # removed by one outside of it
            return self._call(inner, plain, iterator)
        return link(lambda iterator: self._call(inner, plain, iterator), iterator)


class _Surrounded:
    """A train function within the links of a chain."""

    def __init__(self, plain: TrainFunction, chain: StepChain) -> None:
        self.plain, self._chain = plain, chain

    def __call__(self, iterator: Any) -> Any:
        return self._chain.call(self.plain, iterator)


_chains: WeakKeyDictionary[Any, StepChain] = WeakKeyDictionary()


def chain_of(model: Any) -> StepChain:
    """Return the chain of a model; the first call makes it."""
    found = _chains.get(model)
    if found is None:
        found = _chains[model] = StepChain(model)
    return found
