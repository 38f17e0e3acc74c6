"""Measure inside a training step's graph how long it waits, and how many rows it takes.

The clock is TensorFlow's own, an operation of the graph. No value leaves the graph before `read`,
so that no step waits for the device.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from keras_candle.backend import Shard
from keras_candle.performance.flops import FlopsCount
from keras_candle.training.step_chain import chain_of

# A traced step keeps its stopwatch, also when `fit` is called again.
_of_models: weakref.WeakKeyDictionary[Any, Stopwatch] = weakref.WeakKeyDictionary()
_GET_NEXT = ("__next__", "get_next")


@dataclass(frozen=True)
class Waits:
    """The waiting times of steps, and the counts that belong to them.

    Attributes:
        input_s: seconds from the request for a batch until its arrival.
        rows: the number of rows in the batches.
        batches: the number of batches.
        exchange_s: seconds from when this rank's tensors were ready until all ranks' sums were.
        exchanges: the number of collectives.
    """

    input_s: float = 0.0
    rows: float = 0.0
    batches: float = 0.0
    exchange_s: float = 0.0
    exchanges: float = 0.0

    def __sub__(self, earlier: Waits) -> Waits:
        """Return the difference of two readings."""
        pairs = zip(vars(self).values(), vars(earlier).values(), strict=True)
        return Waits(*(now - before for now, before in pairs))


class Stopwatch:
    """Measures the steps of one model that are traced while it is attached.

    Attributes:
        flops: the count of the traced steps.
        has_clock: whether the graph can read the time. TensorFlow refuses its clock where op
            determinism is on; rows and batches are counted all the same.
    """

    def __init__(self) -> None:
        import tensorflow as tf

        self.flops = FlopsCount()
        self.has_clock = _can_read_clock()
        with tf.init_scope(), tf.device("CPU:0"):
            # input_s, rows, batches; exchange_s, exchanges
            self._input = tf.Variable([0.0] * 3, dtype=tf.float64, trainable=False)
            self._exchange = tf.Variable([0.0] * 2, dtype=tf.float64, trainable=False)

    def read(self) -> Waits:
        """Return all measurements so far."""
        return Waits(*self._input.numpy().tolist(), *self._exchange.numpy().tolist())

    def around(
        self, exchange: Callable[[Sequence[Any]], list[Any]], tensors: Sequence[Any]
    ) -> list[Any]:
        """Return exchange(tensors), and measure in the graph how long it takes."""
        import tensorflow as tf

        if not (tensors and self.has_clock):
            return exchange(tensors)
        with tf.control_dependencies(list(tensors)):
            began_s = tf.timestamp()
        # All tensors go in one exchange, so it is enough that one of them waits for the clock.
        with tf.control_dependencies([began_s]):
            first = tf.identity(tensors[0])
        received = exchange([first, *tensors[1:]])
        with tf.control_dependencies(received):
            passed_s = tf.timestamp() - began_s
            self._exchange.assign_add(tf.stack([passed_s, 1.0]))
        return received

    @contextmanager
    def on_input(self, iterator: Any) -> Iterator[None]:
        """Time the batches of a `tf.data.Iterator` in a step that is traced in this context."""
        import tensorflow as tf

        kind = type(iterator)
        if not isinstance(iterator, tf.data.Iterator):
            yield
            return
        own = {name: vars(kind)[name] for name in _GET_NEXT if name in vars(kind)}
        for name in _GET_NEXT:
            setattr(kind, name, self._timed(getattr(kind, name)))
        try:
            yield
        finally:
            for name in _GET_NEXT:
                if name in own:
                    setattr(kind, name, own[name])
                else:
                    delattr(kind, name)

    def _timed(self, plain: Callable[[Any], Any]) -> Callable[[Any], Any]:
        import tensorflow as tf

        now_s = tf.timestamp if self.has_clock else lambda: tf.constant(0.0, tf.float64)

        def get_next(iterator: Any) -> Any:
            began_s = now_s()
            with tf.control_dependencies([began_s]):
                data = plain(iterator)
            parts = tf.nest.flatten(data, expand_composites=True)
            tensors = [each for each in parts if isinstance(each, tf.Tensor)]
            with tf.control_dependencies(tensors):
                passed_s = now_s() - began_s
                counts = [passed_s, tf.cast(_rows(data), tf.float64), 1.0]
                self._input.assign_add(tf.stack(counts))
            return data

        return get_next


def _can_read_clock() -> bool:
    import tensorflow as tf

    try:
        with tf.init_scope():
            tf.timestamp()
    except tf.errors.FailedPreconditionError:
        return False
    return True


def _rows(data: Any) -> Any:
    """The rows of a batch that count, 0 where unknown."""
    import tensorflow as tf

    if isinstance(data, Shard):
        return data.rows
    for each in keras.tree.flatten(data):
        if hasattr(each, "shape") and each.shape.rank:
            return each.shape[0] if each.shape[0] is not None else tf.shape(each)[0]
    return 0


def stopwatch_of(model: Any) -> Stopwatch:
    """Return the stopwatch of a model; a new one drops the train function, to trace it anew."""
    found = _of_models.get(model)
    if found is None:
        found = _of_models[model] = Stopwatch()
        chain_of(model).take()
    return found
