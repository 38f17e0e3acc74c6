"""Collectives on a step's tensors, inside and outside of a TensorFlow graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import tensorflow as tf

from keras_candle.engine.base import Engine

# What Horovod sends together: as much as PyTorch's DistributedDataParallel (bucket_cap_mb).
_BUCKET_BYTES = 25 * 2**20

# engine -> functions by the names of their collectives
_compiled: WeakKeyDictionary[Engine, dict[str, Callable[..., Any]]] = WeakKeyDictionary()


def sum_in_step(engine: Engine, tensors: Sequence[Any], *, name: str) -> list[Any]:
    carry = {"single": _keep, "mpi": _sum_on_host, "horovod": _sum_by_horovod}[engine.name]
    return _timed(engine, lambda each: carry(engine, each, name), tensors)


def concat_in_step(engine: Engine, tensors: Sequence[Any], *, name: str) -> list[Any]:
    carry = {"single": _keep, "mpi": _concat_on_host, "horovod": _concat_by_horovod}[engine.name]
    return _timed(engine, lambda each: carry(engine, each, name), tensors)


def sum_differentiably(engine: Engine, tensor: Any, part: Any, *, name: str) -> Any:
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def summed(x: Any) -> Any:
        (total,) = sum_in_step(engine, [x], name=name)

        def gradient(upstream: Any) -> Any:
            (arrived,) = sum_in_step(engine, [upstream * part], name=f"{name}.gradient")
            return tf.math.divide_no_nan(arrived, part)

        return total, gradient

    return summed(tensor)


def gather_rows(
    engine: Engine, tensors: Sequence[Any], rows: Any, *, name: str, interleave: bool
) -> list[Any]:
    tensors = [tf.convert_to_tensor(each) for each in tensors]
    rows = tf.shape(tensors[0])[0] if rows is None else rows
    # Without the placeholder row of an empty rank.
    owns = [each[:rows] for each in tensors]
    *wholes, by_rank = concat_in_step(
        engine,
        [*(tf.stop_gradient(each) for each in owns), tf.reshape(rows, [1])],
        name=name,
    )
    total = tf.reduce_sum(by_rank)
    if interleave:
        order, places = _interleaved(total, rows, engine)
        wholes = [tf.gather(each, order) for each in wholes]
    else:
        places = tf.reduce_sum(by_rank[: engine.rank]) + tf.range(rows)
    weight = tf.cast(total, tf.float32) / tf.cast(tf.maximum(rows, 1), tf.float32)
    return [
        _with_gradient(own, whole, places, weight) if own.dtype.is_floating else whole
        for own, whole in zip(owns, wholes, strict=True)
    ]


def _interleaved(total: Any, rows: Any, engine: Engine) -> tuple[Any, Any]:
    """Indices of the batch's rows in the concatenation by rank, and of the own rows in the batch.

    Rank r has the rows r, r + N, r + 2N, ... of the batch.
    """
    row = tf.range(total)
    rank = row % engine.size
    begin = rank * (total // engine.size) + tf.minimum(rank, total % engine.size)
    return begin + row // engine.size, engine.rank + engine.size * tf.range(rows)


def _with_gradient(own: Any, whole: Any, places: Any, weight: Any) -> Any:
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def joined(_: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            return tf.gather(upstream, places) * tf.cast(weight, upstream.dtype)

        return tf.identity(whole), gradient

    return joined(own)


def _timed(
    engine: Engine, exchange: Callable[[Sequence[Any]], list[Any]], tensors: Sequence[Any]
) -> list[Any]:
    watch = engine.stopwatch
    return exchange(tensors) if watch is None else watch.around(exchange, tensors)


def _keep(engine: Engine, tensors: Sequence[Any], name: str) -> list[Any]:  # noqa: ARG001
    return list(tensors)


def _sum_on_host(engine: Engine, tensors: Sequence[Any], name: str) -> list[Any]:
    summed: list[Any] = [None] * len(tensors)
    for dtype, places in _by_dtype(tensors).items():
        # NumPy has no bfloat16, so it is sent as float32.
        travel = tf.float32 if dtype == tf.bfloat16 else dtype
        flat = tf.concat([tf.reshape(tensors[i], [-1]) for i in places], axis=0)
        sent = [tf.cast(flat, travel)]
        flat = tf.numpy_function(lambda each: engine.sum_in_step(each, name), sent, travel)
        parts = tf.split(tf.cast(flat, dtype), [tf.size(tensors[i]) for i in places])
        for i, part in zip(places, parts, strict=True):
            summed[i] = tf.reshape(part, tf.shape(tensors[i]))
            summed[i].set_shape(tensors[i].shape)
    return summed


def _by_dtype(tensors: Sequence[Any]) -> dict[Any, list[int]]:
    places: dict[Any, list[int]] = {}
    for i, tensor in enumerate(tensors):
        places.setdefault(tensor.dtype, []).append(i)
    return places


def _concat_on_host(engine: Engine, tensors: Sequence[Any], name: str) -> list[Any]:
    dtypes = [tensor.dtype for tensor in tensors]
    travel = [tf.float32 if dtype == tf.bfloat16 else dtype for dtype in dtypes]
    sent = [tf.cast(tensor, dtype) for tensor, dtype in zip(tensors, travel, strict=True)]
    exchanged = tf.numpy_function(lambda *each: engine.concat_in_step(each, name), sent, travel)
    # Outside of a graph, TensorFlow unpacks a list of one.
    received = tf.nest.flatten(exchanged)
    whole = [tf.cast(tensor, dtype) for tensor, dtype in zip(received, dtypes, strict=True)]
    for tensor, part in zip(whole, tensors, strict=True):
        tensor.set_shape([None, *part.shape[1:]])
    return whole


def _sum_by_horovod(engine: Any, tensors: Sequence[Any], name: str) -> list[Any]:
    horovod = engine.library

    def exchange(*parts: Any) -> list[Any]:
        summed: list[Any] = [None] * len(parts)
        for dtype, places in _by_dtype(parts).items():
            for number, bucket in enumerate(_buckets(parts, places)):
                grouped = horovod.grouped_allreduce(
                    [parts[i] for i in bucket],
                    op=horovod.Sum,
                    name=f"candle.sum.{name}.{dtype.name}.{number}",
                    ignore_name_scope=True,
                )
                for i, each in zip(bucket, grouped, strict=True):
                    summed[i] = each
        return summed

    return _in_graph(engine, exchange, tensors, f"sum {name}")


def _buckets(tensors: Sequence[Any], places: Sequence[int]) -> list[list[int]]:
    """Split tensors into groups of about `_BUCKET_BYTES`, last ones first.

    A backward pass computes the gradients of the last layers first. Their group travels while it
    computes the others.
    """
    buckets: list[list[int]] = [[]]
    room = _BUCKET_BYTES
    for i in reversed(places):
        size = tensors[i].dtype.size * (tensors[i].shape.num_elements() or 0)
        if buckets[-1] and size > room:
            buckets.append([])
            room = _BUCKET_BYTES
        buckets[-1].append(i)
        room -= size
    return buckets


def _concat_by_horovod(engine: Any, tensors: Sequence[Any], name: str) -> list[Any]:
    horovod = engine.library

    def exchange(*parts: Any) -> list[Any]:
        return [
            horovod.allgather(part, name=f"candle.concat.{name}.{i}", ignore_name_scope=True)
            for i, part in enumerate(parts)
        ]

    return _in_graph(engine, exchange, tensors, f"concat {name}")


def _in_graph(
    engine: Engine, exchange: Callable[..., Any], tensors: Sequence[Any], key: str
) -> list[Any]:
    function = exchange
    is_eager = tf.executing_eagerly()
    if is_eager:
        # Horovod matches operations by name only inside a graph.
        in_graph = tf.function(exchange, autograph=False, reduce_retracing=True)
        function = _compiled.setdefault(engine, {}).setdefault(key, in_graph)
    # Horovod has no bfloat16.
    travel = [tf.float32 if each.dtype == tf.bfloat16 else each.dtype for each in tensors]
    sent = [tf.cast(each, dtype) for each, dtype in zip(tensors, travel, strict=True)]
    if is_eager:
        with engine.reported(key):
            received = function(*sent)
    else:
        engine.on_graph_collective(key)
        received = function(*sent)
    return [tf.cast(each, own.dtype) for each, own in zip(received, tensors, strict=True)]
