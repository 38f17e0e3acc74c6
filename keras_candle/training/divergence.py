"""The divergence guard: compares checksums of the variables that all ranks must hold equally."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.engine.base import Engine
from keras_candle.errors import DivergenceError

# Checked in every training: a gradient without an allreduce shows as soon as it is applied.
FIRST_STEPS = 2
# Variable lists compared in turn: in steps, between two updates, and at an epoch's end.
_LISTS = 4

NOT_AVERAGED = (
    "Its gradient was not averaged over the ranks. Let the optimizer be an attribute of the "
    "model (compile's, or self.my_optimizer, also in lists and dicts), and change weights in a "
    "training step through an optimizer only."
)
CHANGED_IN_STEP = (
    "Its gradient was averaged, but the training step also changes it by a value that each rank "
    "computes from its own rows. Change weights in a training step through an optimizer only, or "
    "undo the change before the step ends."
)
CHANGED_ON_SOME = (
    "It was changed on some ranks only: by a callback that depends on the rank or on a clock, "
    "by files that only one node has, or by random numbers without a common seed."
)


class DivergenceGuard:
    """Compares the variables of all ranks by checksum.

    Args:
        engine: connects the ranks.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # By the ids of the variables, which the functions keep alive.
        self._functions: dict[tuple[int, ...], Callable[[], Any]] = {}

    def differing(self, variables: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return the checksums of every rank where they differ, else None.

        Args:
            variables: keras variables, the same on all ranks.

        Returns:
            An array of shape [size, variables], None when all ranks hold the same bits.
        """
        own = self._checksums(variables)
        # The maximum and, by its sign, the minimum in one collective.
        most = self._engine.allreduce(np.concatenate([own, -own]), "max")
        if np.array_equal(most[: own.size], -most[own.size :]):
            return None
        return self._engine.allgather(own)

    def refuse(
        self, variables: Sequence[Any], checksums: NDArray[np.int64], when: str, hint: str
    ) -> None:
        """Raise an error about variables that differ.

        Raises:
            DivergenceError: on every rank, with the first variable that differs and the groups of
                ranks that hold the same value, largest first.
        """
        different = (checksums != checksums[0]).any(axis=0)
        first = int(np.argmax(different))
        more = int(different.sum()) - 1
        variable = variables[first]
        raise DivergenceError(
            f"The ranks differ {when}, first in {variable.path}"
            f"{f' (and in {more} more of {len(variables)})' if more else ''}: "
            f"{_groups(checksums[:, first])}{self._values(variable)}. {hint}"
        )

    def _values(self, variable: Any) -> str:
        """The largest difference between the ranks; every rank's value for a scalar."""
        if variable.shape.num_elements() > 1_000_000:
            return ""
        value = np.asarray(keras.ops.convert_to_numpy(variable), np.float64)
        everyone = self._engine.allgather(value)
        if value.size == 1:
            return "; the values are " + ", ".join(f"{float(each):g}" for each in everyone.ravel())
        apart = np.nanmax(everyone.max(axis=0) - everyone.min(axis=0))
        return f"; up to {apart:.3g} apart"

    def _checksums(self, variables: Sequence[Any]) -> NDArray[np.int64]:
        of = tuple(map(id, variables))
        function = self._functions.pop(of, None) or _checksum_function(list(variables))
        while len(self._functions) >= _LISTS:
            del self._functions[next(iter(self._functions))]
        self._functions[of] = function  # last in the dict: evicted last
        return np.asarray(function(), np.int64)


def _checksum_function(variables: list[Any]) -> Callable[[], Any]:
    import tensorflow as tf

    if not variables:
        return lambda: np.zeros(0)
    # TensorFlow keeps 32-bit integers in the host's memory even where there is a GPU.
    on_gpu = bool(tf.config.get_visible_devices("GPU"))
    dtype = tf.int64 if on_gpu else tf.int32

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def checksums() -> Any:
        return tf.stack([_checksum(variable.value, dtype) for variable in variables])

    return checksums  # type: ignore[no-any-return]


def _checksum(value: Any, dtype: Any) -> Any:
    """Sum of each 32 bits times their place, in integers: independent of the order."""
    import tensorflow as tf

    bits = {2: tf.int16, 4: tf.int32, 8: tf.int32}.get(value.dtype.size)
    value = tf.cast(value, tf.int32) if bits is None else tf.bitcast(value, bits)
    flat = tf.reshape(tf.cast(value, dtype), [-1])
    places = 2 * tf.range(tf.size(flat, out_type=dtype), dtype=dtype) + 1
    return tf.reduce_sum(flat * places)


def _groups(checksums: NDArray[np.int64]) -> str:
    """Groups of ranks with the same checksum, in words.

    Example:
        >>> _groups(np.array([5, 7, 5]))
        'ranks 0, 2 hold one value, rank 1 another'
    """
    values, counts = np.unique(checksums, return_counts=True)
    by_size = values[np.argsort(-counts, kind="stable")]
    groups = []
    for value in by_size:
        ranks = np.flatnonzero(checksums == value)
        one = "rank" if len(ranks) == 1 else "ranks"
        groups.append(f"{one} {', '.join(map(str, ranks[:8]))}{', ...' if len(ranks) > 8 else ''}")
    if len(groups) > 4:
        return "nearly every rank holds another value"
    verb = "holds" if groups[0].startswith("rank ") else "hold"
    return f"{groups[0]} {verb} one value, " + ", ".join(f"{each} another" for each in groups[1:])
