"""Numbers drawn at random that are the same on all ranks."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_candle.engine.base import Engine


class SharedRandomness:
    """Python's, NumPy's and torch's global generators, the same on all ranks while entered.

    They go on from the root's state, so what is drawn here is what one rank would draw. What a
    rank draws outside of this is its own, and of no consequence here.

    Args:
        engine: connects the ranks.
    """

    def __init__(self, engine: Engine) -> None:
        self._state: Any = engine.broadcast(_state())

    def __enter__(self) -> None:
        self._outside = _state()
        _set(self._state)

    def __exit__(self, *_: object) -> None:
        self._state = _state()
        _set(self._outside)

    def state(self) -> tuple[Any, ...]:
        """The state, as plain values."""
        return tuple(self._state)

    def go_on(self, state: tuple[Any, ...]) -> None:
        """Go on from a state, maybe one of another process."""
        self._state = state

    @contextmanager
    def tried(self) -> Iterator[None]:
        """The same, but what is drawn here will be drawn again."""
        before = self._state
        with self:
            yield
        self._state = before

    @contextmanager
    def of_torch(self) -> Iterator[None]:
        """The same for torch alone, in any thread: the other generators are left alone."""
        outside = _state()[2]
        _set_torch(self._state[2])
        try:
            yield
        finally:
            self._state = (*self._state[:2], _state()[2])
            _set_torch(outside)

    def shuffle(self, items: list[int]) -> None:
        """`random.shuffle`, in any thread: the global generator is left alone."""
        own = random.Random()  # noqa: S311 - an order of batches, no secret
        own.setstate(self._state[0])
        own.shuffle(items)
        self._state = (own.getstate(), *self._state[1:])


def _state() -> tuple[Any, ...]:
    torch = sys.modules.get("torch")
    drawn_by_torch = None if torch is None else torch.random.get_rng_state().numpy()
    return random.getstate(), np.random.get_state(), drawn_by_torch


def _set(state: tuple[Any, ...]) -> None:
    python, numpy, drawn_by_torch = state
    random.setstate(python)
    np.random.set_state(numpy)
    _set_torch(drawn_by_torch)


def _set_torch(state: Any) -> None:
    torch = sys.modules.get("torch")
    if torch is not None and state is not None:
        torch.random.set_rng_state(torch.from_numpy(state))
