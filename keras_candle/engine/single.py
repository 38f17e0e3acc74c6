"""The engine of one process: every collective is the identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_candle.engine.base import Engine
from keras_candle.errors import EngineError


class SingleEngine(Engine):
    """The engine of a program on one rank.

    Example:
        >>> engine = SingleEngine()
        >>> engine.rank, engine.size
        (0, 1)
        >>> engine.allgather([1.0, 2.0]).shape
        (1, 2)
    """

    name = "single"

    def __init__(self) -> None:
        self.rank, self.size, self.local_rank, self.local_size = 0, 1, 0, 1

    def _reduce(self, array: NDArray[Any], op: str) -> NDArray[Any]:  # noqa: ARG002 - one rank
        return array.copy()

    def allgather(self, x: ArrayLike) -> NDArray[Any]:
        return np.asarray(x)[np.newaxis].copy()

    def gather_objects(self, item: Any) -> list[Any]:
        return [item]

    def gather_to_root(self, item: Any) -> list[Any] | None:
        return [item]

    def scatter(self, items: Sequence[Any] | None) -> Any:
        if items is None or len(items) != 1:
            raise EngineError(f"scatter got {items!r:.80}, expected a list of one object.")
        return items[0]

    def broadcast(self, item: Any, root: int = 0) -> Any:
        if root != 0:
            raise EngineError(f"broadcast got root={root}, but the only rank is 0.")
        return item

    def barrier(self) -> None:
        return None

    def split(self, color: int, key: int | None = None) -> Engine:  # noqa: ARG002 - alone
        return self

    def after_root(self, action: Callable[[], Any], what: str) -> Any:  # noqa: ARG002 - alone
        return action()

    def sum_in_step(self, array: NDArray[Any], name: str) -> NDArray[Any]:  # noqa: ARG002
        return array

    def concat_in_step(
        self,
        arrays: Sequence[NDArray[Any]],
        name: str,  # noqa: ARG002
    ) -> list[NDArray[Any]]:
        return list(arrays)
