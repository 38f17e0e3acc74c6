"""Random numbers that are the same on all ranks."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_candle.engine.base import Engine
from keras_candle.random_state import find_generators, fold_in, get_state, set_state
from keras_candle.seeding import default_seeds


class SharedRandomness:
    """Context manager in which random generators draw the same numbers on all ranks.

    It covers Python's, NumPy's and torch's global generators, which continue from the root's
    state, so that they draw as on one rank; the data's own generators, which continue from the
    root's state after its own batches; and generators that are created inside without a seed.
    Numbers that a rank draws outside are its own, and have no effect inside.

    Every rank must create, enter and leave it: each of these is a collective.

    Args:
        engine: connects the ranks.
        source: the user's data, whose generators are synchronized; None for data without any.
    """

    def __init__(self, engine: Engine, source: Any = None) -> None:
        self._engine, self._source = engine, source
        self._apart, self._apart_globally, self._entered = False, (False, False), 0
        own = _state()
        self._state: Any = engine.broadcast(own)
        roots = self._state
        self._differs = own[0] != roots[0] or bool(np.any(own[1][1] != roots[1][1]))
        self._seed = engine.broadcast(int(np.random.SeedSequence().generate_state(1)[0]))
        self._take_roots()

    def differs(self) -> bool:
        """Whether the ranks' global generators had different states: without a seed they have."""
        return bool(self._engine.allreduce(float(self._differs), "max"))

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Restore this rank's own global generators after the context."""
        before = _state()
        try:
            yield
        finally:
            _set(before)

    def __enter__(self) -> None:
        self._outside = _state()
        self._own_outside = self._own() if self._apart else {}
        self._before = self._state
        _set(self._state)
        self._take_roots()
        self._entered += 1
        self._unseeded = default_seeds(f"{self._seed} {self._entered}")
        self._unseeded.__enter__()

    def __exit__(self, *_: object) -> None:
        self._unseeded.__exit__(None, None, None)
        self._state = _state()
        _set(self._outside)
        self._set_own(self._own_outside)

    def draw_apart(self) -> None:
        """Let each rank draw different numbers outside of this context.

        For ranks that load different batches: otherwise all of them, from one seed, choose the
        same rows or augment them in the same way. Call it after batches were loaded inside this
        context; the global generators that they drew from are each rank's own from here on.
        """
        python, numpy, _ = self._before
        drawn = (python != self._state[0], repr(numpy) != repr(self._state[1]))
        self._apart_globally = self._engine.broadcast(drawn)
        self._apart = not self._engine.is_root
        if not self._apart:
            return
        for each in find_generators(self._source).values():
            fold_in(each, self._engine.rank)
        python, numpy = self._apart_globally
        if python:
            own = random.Random()  # noqa: S311 - no secret
            own.setstate(random.getstate())
            fold_in(own, self._engine.rank)
            random.setstate(own.getstate())
        if numpy:
            legacy = np.random.RandomState()
            legacy.set_state(np.random.get_state())
            fold_in(legacy, self._engine.rank)
            np.random.set_state(legacy.get_state())

    def draw_together(self) -> None:
        """Let all ranks draw from the root's global generators again, once no batch is loaded."""
        if any(self._apart_globally):
            python, numpy, _ = self._engine.broadcast(_state())
            random.setstate(python)
            np.random.set_state(numpy)

    def _own(self) -> dict[str, Any]:
        if self._source is None:
            return {}
        return {path: get_state(each) for path, each in find_generators(self._source).items()}

    def _set_own(self, states: Mapping[str, Any]) -> None:
        """Set the states of the data's generators; one without a state here keeps its own."""
        if not states:
            return
        for path, generator in find_generators(self._source).items():
            if path in states and get_state(generator)["kind"] == states[path]["kind"]:
                set_state(generator, states[path])

    def _take_roots(self) -> None:
        if self._source is not None:
            self._set_own(self._engine.broadcast(self._own()))

    def state(self) -> tuple[Any, ...]:
        """Return the state of the global generators, as plain values."""
        return tuple(self._state)

    def restore(self, state: tuple[Any, ...]) -> None:
        """Continue from a state of `state()`, also one of another process."""
        self._state = state

    @contextmanager
    def rewound(self) -> Iterator[None]:
        """Draw the shared numbers without a collective, and rewind the generators at the end."""
        before, own, outside = self._state, self._own(), _state()
        _set(before)
        try:
            yield
        finally:
            _set(outside)
            self._set_own(own)

    @contextmanager
    def torch_only(self) -> Iterator[None]:
        """Share torch's generator alone, in any thread; Python's and NumPy's stay untouched."""
        outside = _state()[2]
        _set_torch(self._state[2])
        try:
            yield
        finally:
            self._state = (*self._state[:2], _state()[2])
            _set_torch(outside)

    def shuffle(self, items: list[int]) -> None:
        """Shuffle as `random.shuffle`, in any thread; the global generator stays untouched."""
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
