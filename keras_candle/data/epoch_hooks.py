"""Call a PyDataset's epoch hooks on all ranks, and check that they leave the same row order."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import numpy as np

from keras_candle.data.fingerprint import fingerprint
from keras_candle.data.shared_randomness import SharedRandomness
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError

_ORDER = "an order of rows"


class LoadingGate:
    """Lock that lets threads load batches, except while a hook runs: loading draws numbers, too."""

    def __init__(self) -> None:
        self._changed, self._loading, self._closed = threading.Condition(), 0, False
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return LoadingGate, ()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Hold while loading a batch; waits until no hook runs."""
        if os.getpid() != self._process:  # a worker, which has its own copy of the data
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._loading += 1
        try:
            yield
        finally:
            with self._changed:
                self._loading -= 1
                self._changed.notify_all()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Hold while a hook runs: waits until no batch is being loaded, and blocks new loads."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._loading)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


class EpochHooks:
    """Calls the hooks of a PyDataset on all ranks, and compares the attributes that they leave.

    Args:
        source: the user's PyDataset.
        randomness: the generators from which the hooks draw.
        engine: connects the ranks.

    Attributes:
        gate: to be held by code that loads batches.
    """

    def __init__(self, source: Any, randomness: SharedRandomness, engine: Engine) -> None:
        self._source, self._randomness, self._engine = source, randomness, engine
        self.gate = LoadingGate()

    def call(self, name: str) -> None:
        """Call a hook on every rank.

        Args:
            name: "on_epoch_begin" or "on_epoch_end".

        Raises:
            DataError: on every rank, when the hook raised on some, or when it left an attribute
                different on each rank.
        """
        hook = getattr(self._source, name)
        is_of_keras = getattr(hook, "__func__", None) is getattr(keras.utils.PyDataset, name)

        def call() -> tuple[dict[str, str], dict[str, str]]:
            before = self._attributes()
            if is_of_keras:
                return before, before
            hook()
            return before, self._attributes()

        with nullcontext() if is_of_keras else self._synchronized():
            found = self._engine.gather_results(call, DataError)
        self._check(name, [each for each, _ in found], [each for _, each in found])

    @contextmanager
    def _synchronized(self) -> Iterator[None]:
        with self.gate.closed(), self._randomness:
            yield

    def _attributes(self) -> dict[str, str]:
        """The attributes that may determine the order of the rows, each as a short text."""
        texts = {name: _text(value) for name, value in vars(self._source).items()}
        texts["num_batches"] = repr(self._source.num_batches)
        return {name: text for name, text in texts.items() if text}

    def _check(
        self, hook: str, before: Sequence[Mapping[str, str]], after: Sequence[Mapping[str, str]]
    ) -> None:
        for name in after[0]:
            values = [each.get(name) for each in after]
            if len(set(values)) == 1:
                continue
            # An attribute that differed before may belong to the rank, such as the batches loaded.
            became_different = len({each.get(name) for each in before}) == 1
            became_different |= name == "num_batches"
            is_order = all(each and each.startswith(_ORDER) for each in values)
            same_rows = len({each.partition(",")[0] for each in values if each}) == 1
            if became_different or (is_order and same_rows):
                listed = "\n".join(f"  rank {rank}: {each}" for rank, each in enumerate(values))
                kind = type(self._source).__name__
                raise DataError(
                    f"After {kind}.{hook}, {kind}.{name} differs on the ranks, so rows would be "
                    f"lost and others doubled:\n{listed}\nDraw there from np.random, random, or a "
                    "generator that the dataset keeps, self.rng = np.random.default_rng(seed): "
                    "all ranks draw the same from these in on_epoch_begin and on_epoch_end."
                )


def _text(value: Any) -> str | None:
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        # The content whatever its order, then a checksum of the order.
        rows = value.astype(np.uint64)
        content = f"{len(rows)} rows with sum {rows.sum()} and {(rows * rows).sum()}"
        return f"{_ORDER}: {content}, {fingerprint(value)[0]}" if len(rows) else None
    if hasattr(value, "shape") and len(value.shape):
        return fingerprint(value)[0]
    if isinstance(value, bool | int | np.integer):
        return repr(value)
    if isinstance(value, list | tuple) and len(value) > 1:
        some = [value[int(i)] for i in np.unique(np.linspace(0, len(value) - 1, 64).astype(int))]
        plain = all(isinstance(each, int | str | bytes | np.integer | tuple) for each in some)
        return f"{len(value)} items, among them {repr(some)[:200]}" if plain else None
    return None
