"""The divergence guard: a checksum of what all ranks must hold alike, compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.engine.base import Engine
from keras_candle.errors import DivergenceError

# Of every training: a gradient that goes past the allreduce shows as soon as it is applied.
FIRST_STEPS = 2
# Of variables that are compared in turn: in steps, between two updates, and at an epoch's end.
_LISTS = 4

NOT_AVERAGED = (
    "Its gradient did not go through the ranks' average. Let the optimizer be an attribute of the "
    "model (compile's, or self.my_optimizer, also in lists and dicts), and change weights in a "
    "training step through an optimizer only."
)
CHANGED_IN_STEP = (
    "Its gradient was averaged, but the training step also changes it by something that each rank "
    "computes from its own rows. Change weights in a training step through an optimizer only, or "
    "undo the change before the step ends."
)
CHANGED_ON_SOME = (
    "Something changed it on some ranks only: a callback that looks at the rank or at a clock, "
    "files that only one node has, numbers drawn without a common seed."
)


class DivergenceGuard:
    """Compares variables over the ranks.

    Args:
        engine: connects the ranks.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # By the ids of the variables, which the functions keep alive.
        self._functions: dict[tuple[int, ...], Callable[[], Any]] = {}

    def differing(self, variables: Sequence[Any]) -> NDArray[np.int64] | None:
        """The checksums of every rank, where they are not the same.

        Args:
            variables: keras variables, the same on all ranks.

        Returns:
            An array of shape [size, variables], None when all ranks hold the same bits.
        """
        own = self._checksums(variables)
        # The largest and, by its sign, the smallest at once.
        most = self._engine.allreduce(np.concatenate([own, -own]), "max")
        if np.array_equal(most[: own.size], -most[own.size :]):
            return None
        return self._engine.allgather(own)

    def refuse(
        self, variables: Sequence[Any], checksums: NDArray[np.int64], when: str, hint: str
    ) -> None:
        """Report variables that differ.

        Raises:
            DivergenceError: on every rank, with the first variable that differs, the ranks that
                hold what most hold, and those that do not.
        """
        different = (checksums != checksums[0]).any(axis=0)
        first = int(np.argmax(different))
        others = int(different.sum()) - 1
        variable = variables[first]
        raise DivergenceError(
            f"The ranks differ {when}, first in {variable.path}"
            f"{f' (and in {others} more of {len(variables)})' if others else ''}: "
            f"{_groups(checksums[:, first])}{self._values(variable)}. {hint}"
        )

    def _values(self, variable: Any) -> str:
        """How far the ranks are apart; every rank's value where that is one number."""
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
        self._functions[of] = function  # the latest is the last to go
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
    """Each 32 bits times their place, added up: integers, so in any order the same."""
    import tensorflow as tf

    bits = {2: tf.int16, 4: tf.int32, 8: tf.int32}.get(value.dtype.size)
    value = tf.cast(value, tf.int32) if bits is None else tf.bitcast(value, bits)
    flat = tf.reshape(tf.cast(value, dtype), [-1])
    places = 2 * tf.range(tf.size(flat, out_type=dtype), dtype=dtype) + 1
    return tf.reduce_sum(flat * places)


def _groups(checksums: NDArray[np.int64]) -> str:
    """Which ranks hold the same.

    Example:
        >>> _groups(np.array([5, 7, 5]))
        'ranks 0, 2 hold one value, rank 1 another'
    """
    values, counts = np.unique(checksums, return_counts=True)
    by_size = values[np.argsort(-counts, kind="stable")]
    said = []
    for value in by_size:
        ranks = np.flatnonzero(checksums == value)
        one = "rank" if len(ranks) == 1 else "ranks"
        said.append(f"{one} {', '.join(map(str, ranks[:8]))}{', ...' if len(ranks) > 8 else ''}")
    if len(said) > 4:
        return "nearly every rank holds another value"
    verb = "holds" if said[0].startswith("rank ") else "hold"
    return f"{said[0]} {verb} one value, " + ", ".join(f"{each} another" for each in said[1:])
