"""Average TensorFlow's sparse gradients, and weigh gradients of losses with one value a row.

A sparse gradient has one slice for each lookup, and optimizers such as Adam square each slice. If
the indices are data, the slices of all ranks side by side are those of the global batch. Where all
rows of a batch share one lookup, such as that of position embeddings, a rank's slice is only its
part of the global batch's slice, and the ranks' slices are added up.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_candle.backend.tensorflow.collectives import concat_in_step
from keras_candle.engine.base import Engine

# They read the shape of a tensor, which the ranks' parts of a batch share but for the rows.
_SHAPES = {"Shape", "ShapeN", "Size", "Rank"}
_DATA = {"IteratorGetNext", "IteratorGetNextAsOptional"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", "If"}
_CALLS |= {"StatelessIf", "Case", "StatelessCase", "EagerPyFunc", "PyFunc", "PyFuncStateless"}


class Lookup(enum.Enum):
    """What the indices of a sparse gradient are computed from.

    Attributes:
        BATCH: from values of the batch.
        FIXED: from no value of the batch.
        UNKNOWN: in a function that cannot be looked into, or without a graph.
    """

    BATCH = enum.auto()
    FIXED = enum.auto()
    UNKNOWN = enum.auto()


class Part(NamedTuple):
    """The slices of one lookup.

    Attributes:
        values: float [slices, ...].
        indices: int [slices].
        lookup: what the indices are computed from.
    """

    values: Any
    indices: Any
    lookup: Lookup


def weigh(gradient: Any, weight: Any, *, may_be_empty: bool) -> Any:
    multiply = tf.math.multiply_no_nan if may_be_empty else tf.multiply
    dense = tf.convert_to_tensor(gradient)
    return multiply(dense, tf.cast(weight, dense.dtype))


def is_sparse(gradient: Any) -> bool:
    return isinstance(gradient, tf.IndexedSlices)


def to_dense(gradient: Any) -> Any:
    return tf.convert_to_tensor(gradient)


def average_sparse(
    engine: Engine,
    gradients: Sequence[Any],
    part: Any,
    *,
    name: str,
    may_be_empty: bool,
    lookups: Sequence[Any],
    sum_slices: bool,
) -> list[Any]:
    multiply = tf.math.multiply_no_nan if may_be_empty else tf.multiply
    if sum_slices:
        parts = [[_summed_slices(each)] for each in gradients]
    else:
        parts = [parts_of(*each) for each in zip(gradients, lookups, strict=True)]
    sent = [
        tensor
        for own in parts
        for each in own
        for tensor in (multiply(each.values, tf.cast(part, each.values.dtype)), each.indices)
    ]
    received = iter(concat_in_step(engine, sent, name=name))
    averaged = []
    for gradient, own in zip(gradients, parts, strict=True):
        if sum_slices:
            slices = tf.IndexedSlices(next(received), next(received), gradient.dense_shape)
            averaged.append(to_dense(slices))
            continue
        merged = [
            (values, indices)
            if each.lookup is Lookup.BATCH
            else sum_over_ranks(values, indices, each, engine.size)
            for each, values, indices in zip(own, received, received, strict=False)
        ]
        values, indices = (tf.concat(each, 0) for each in zip(*merged, strict=True))
        averaged.append(tf.IndexedSlices(values, indices, gradient.dense_shape))
    return averaged


def _summed_slices(gradient: Any) -> Part:
    """One slice for each row, the sum of its slices; what the indices come from makes no matter."""
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return Part(values, rows, Lookup.BATCH)


def parts_of(gradient: Any, known: Lookup | None = None) -> list[Part]:
    """Return the slices of a sparse gradient, apart where lookups of both kinds are in it.

    Args:
        gradient: a `tf.IndexedSlices`.
        known: what its indices are computed from, where that is in another graph.
    """
    if known is not None:
        return [Part(gradient.values, gradient.indices, known)]
    values, indices = _joined(gradient.values), _joined(gradient.indices)
    if len(values) == len(indices):
        kinds = [lookup_of(each) for each in indices]
        if len(set(kinds)) > 1:
            return [Part(*each) for each in zip(values, indices, kinds, strict=True)]
    return [Part(gradient.values, gradient.indices, lookup_of(gradient.indices))]


def _joined(tensor: Any) -> list[Any]:
    """What a tensor was concatenated from along its first axis."""
    operation = _operation(tensor)
    return list(operation.inputs)[:-1] if operation and operation.type == "ConcatV2" else [tensor]


def lookup_of(indices: Any) -> Lookup:
    """Return what indices are computed from.

    Args:
        indices: an int tensor; of one without a graph nothing is known.
    """
    if _operation(indices) is None:
        return Lookup.UNKNOWN
    found = set(_sources(indices))
    return next((each for each in (Lookup.BATCH, Lookup.UNKNOWN) if each in found), Lookup.FIXED)


def _operation(tensor: Any) -> Any:
    return tensor.op if tf.is_symbolic_tensor(tensor) else None


def _sources(tensor: Any) -> Iterator[Lookup]:
    """The kinds of all tensors that the values of one are computed from."""
    todo, seen = [tensor], set[int]()
    while todo:
        each = todo.pop()
        operation = _operation(each)
        if operation is None or id(operation) in seen:
            continue
        seen.add(id(operation))
        if operation.type in _DATA:
            yield Lookup.BATCH
        elif operation.type == "Placeholder":
            outside = _captured(each)
            if outside is None:
                yield Lookup.BATCH  # an argument of the function that is being traced
            else:
                todo.append(outside)
        elif operation.type in _CALLS:
            inputs = {kind for source in operation.inputs for kind in _sources(source)}
            if inputs:
                yield Lookup.UNKNOWN
        elif operation.type not in _SHAPES:
            todo += [source for source in operation.inputs if source.dtype != "resource"]


def _captured(placeholder: Any) -> Any:
    """The tensor that a function has captured by a placeholder; None for its own arguments."""
    captures = getattr(placeholder.graph, "captures", ())
    return next((outside for outside, inside in captures if inside.op is placeholder.op), None)


def sum_over_ranks(values: Any, indices: Any, own: Part, size: int) -> tuple[Any, Any]:
    """Add up the slices that all ranks have of the same lookups.

    Args:
        values: float [slices of all ranks, ...], by rank.
        indices: int [slices of all ranks].
        own: this rank's part.
        size: number of ranks.

    Returns:
        Values and indices. Where the ranks have looked up the same, in the same order, one slice
        for each of a rank's lookups. Else, of a fixed lookup, one for each index; what is not known
        to be fixed stays as it is.
    """
    count = tf.size(own.indices)
    as_many = tf.equal(tf.size(indices), size * count)
    whole = tf.cond(as_many, lambda: indices, lambda: tf.zeros([size * count], indices.dtype))
    alike = as_many & tf.reduce_all(tf.reshape(whole, [size, -1]) == own.indices)

    def sum_alike() -> tuple[Any, Any]:
        by_rank = tf.reshape(values, tf.concat([[size, count], tf.shape(values)[1:]], 0))
        return tf.reduce_sum(by_rank, 0), own.indices

    def otherwise() -> tuple[Any, Any]:
        if own.lookup is Lookup.UNKNOWN:
            return values, indices
        unique, places = tf.unique(indices)
        return tf.math.unsorted_segment_sum(values, places, tf.size(unique)), unique

    summed, kept = tf.cond(alike, sum_alike, otherwise)
    summed.set_shape([None, *values.shape[1:]])
    return summed, kept


@contextmanager
def weighing_row_losses(rows: Any, total: Any, data: Any) -> Iterator[None]:
    plain = tf.GradientTape.gradient
    size = _leading_size(next(each for each in keras.tree.flatten(data) if each is not None))

    @functools.wraps(plain)
    def gradient(
        tape: Any, target: Any, sources: Any, output_gradients: Any = None, **options: Any
    ) -> Any:
        targets = tf.nest.flatten(target)
        # A gradient penalty differentiates outputs by inputs, row by row.
        by_weights = all(hasattr(each, "assign") for each in tf.nest.flatten(sources))
        if (
            output_gradients is None
            and by_weights
            and any(_has_rows(each, size) for each in targets)
        ):
            weights = [
                _factor(each, rows, total) if _has_rows(each, size) else tf.ones_like(each)
                for each in targets
            ]
            output_gradients = tf.nest.pack_sequence_as(target, weights)
        return plain(tape, target, sources, output_gradients, **options)

    tf.GradientTape.gradient = gradient
    try:
        yield
    finally:
        tf.GradientTape.gradient = plain


def _leading_size(tensor: Any) -> int | None:
    return tensor.shape[0] if tensor.shape.rank else None


def _has_rows(target: Any, rows: int | None) -> bool:
    """Whether the first axis of a target may be that of the rows: it has the same static size."""
    return bool(target.shape.rank) and target.shape[0] == rows


def _factor(target: Any, rows: Any, total: Any) -> Any:
    is_of_rows = tf.equal(tf.shape(target)[0], rows)
    factor = tf.math.divide_no_nan(tf.cast(total, target.dtype), tf.cast(rows, target.dtype))
    return tf.fill(tf.shape(target), tf.where(is_of_rows, factor, tf.ones_like(factor)))
