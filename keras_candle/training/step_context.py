"""The context of a step while it is traced, and the rows of all ranks in it.

Gathered rows compute on the global batch. The gradient of each rank flows back to its own rows
only. The gradient average weights a rank by its rows, so a rank's gradient carries the inverse of
that weight, and the average is the gradient of the global batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_candle import backend
from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError
from keras_candle.keras_private.models import get_keras_mask, set_keras_mask


@dataclass
class StepContext:
    """A rank's rows in the step that is being traced, and facts about the training.

    Attributes:
        rows: int32 scalar tensor, the rank's rows; None outside of a step.
        total: int32 scalar tensor, rows of the global batch; None outside of a step.
        rows_expected: about how many rows a rank has in one step.
        lookups_expected: at most how many embedding rows a rank's batch looks up.
        may_be_empty: whether `rows` can be 0 in this training.
        knows_total: whether `total` is known in this training.
        totals: rows of the global batch by rows of this rank's shard, for data that are not a
            `Shard`.
        is_one_batch: whether the ranks divide one batch of one rank, instead of each having its
            own batch: then a loss's reduction covers the global batch.
        training: whether this is a training step.
        calls: how many collectives the forward pass has so far. A layer that is called twice has
            two, and Horovod needs two names.
        gathered: (tensor, all ranks' rows of it) by the tensor's id.
        split_for_xla: whether the forward and backward pass are compiled by XLA.
        in_xla: whether they are being traced for XLA, where no collectives are possible.
        lookups: what the indices of sparse gradients are computed from, by the variable's id, where
            XLA compiles that.
        averaged: variables, by id, that averaged gradients update.
        steps_without_rows: int64 variable that counts steps without rows, where these are an
            error; else None.
    """

    rows: Any = None
    total: Any = None
    rows_expected: int = 32
    lookups_expected: int = 32
    may_be_empty: bool = False
    knows_total: bool = False
    totals: dict[int, int] = field(default_factory=dict)
    is_one_batch: bool = False
    training: bool = True
    steps_without_rows: Any = None
    calls: int = 0
    gathered: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    split_for_xla: bool = False
    in_xla: bool = False
    lookups: dict[int, Any] = field(default_factory=dict)
    averaged: dict[int, Any] = field(default_factory=dict)

    def record_averaged(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Keep the variables that get a gradient."""
        pairs = zip(gradients, variables, strict=True)
        self.averaged.update({id(each): each for gradient, each in pairs if gradient is not None})


# Lists that get the tensors of `gather_rows`.
_WATCHED: list[list[Any]] = []


@contextmanager
def watch_gathers() -> Iterator[list[Any]]:
    """Collect the tensors that are passed to `gather_rows` inside a `with` block."""
    _WATCHED.append([])
    try:
        yield _WATCHED[-1]
    finally:
        _WATCHED.pop()


# The step that is being traced, innermost last.
_TRACED: list[tuple[Engine, StepContext]] = []


@contextmanager
def traced_step(engine: Engine, step: StepContext) -> Iterator[None]:
    """Context of a traced step, in which `gather_rows` gathers over the ranks."""
    _TRACED.append((engine, step))
    try:
        yield
    finally:
        _TRACED.pop()


def gather_rows(tensor: Any) -> Any:
    """Gather the rows of a tensor over all ranks, in a training step.

    For losses and state that depend on several rows of a batch: contrastive losses, batch-wise
    statistics, queues of features. With `batch="global"` the rows are in the order of the batch
    that `fit` was given; otherwise they are in the order of the ranks. A loss of gathered rows has
    the same gradient as on one rank with all rows.

    Args:
        tensor: shape (rows, ...), computed from this rank's rows in `train_step`, `compute_loss`
            or a layer's `call`. This is a collective: every rank must call it.

    Returns:
        Tensor of shape (rows of all ranks, ...). The tensor itself on one rank, in `evaluate` and
        `predict`, and outside of a step.

    Raises:
        CandleError: inside a step that XLA compiles.

    Example:
        >>> class SimCLR(keras.Model):
        ...     def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        ...         rows = gather_rows(y_pred)
        ...         similarity = keras.ops.matmul(rows, keras.ops.transpose(rows))
        ...         return -keras.ops.mean(keras.ops.log_softmax(similarity))
    """
    for each in _WATCHED:
        each.append(tensor)
    if not _TRACED:
        return tensor
    engine, step = _TRACED[-1]
    if engine.size == 1 or not step.training:
        return tensor
    return gather_all([tensor], engine, step)[0]


def gather_all(tensors: Sequence[Any], engine: Engine, step: StepContext) -> list[Any]:
    """Gather several tensors, each of them once in a step, with one collective."""
    new = [each for each in tensors if id(each) not in step.gathered]
    if new:
        for own, whole in zip(new, _gather(new, engine, step), strict=True):
            # Keeps the tensor alive, so that no other tensor gets its id.
            step.gathered[id(own)] = (own, whole)
    return [step.gathered[id(each)][1] for each in tensors]


def gather_structure(structure: Any, engine: Engine, step: StepContext) -> Any:
    """Gather nested tensors, masks included; leave tensors without rows as they are."""
    leaves = [each for each in keras.tree.flatten(structure) if _has_rows(each)]
    masks = {id(each): get_keras_mask(each) for each in leaves}
    masked = [mask for mask in masks.values() if mask is not None]
    gather_all([*leaves, *masked], engine, step)

    def whole(leaf: Any) -> Any:
        if not _has_rows(leaf):
            return leaf
        gathered, mask = step.gathered[id(leaf)][1], masks[id(leaf)]
        if mask is not None:
            set_keras_mask(gathered, step.gathered[id(mask)][1])
        return gathered

    return keras.tree.map_structure(whole, structure)


def _has_rows(leaf: Any) -> bool:
    return bool(len(getattr(leaf, "shape", ())))


def _gather(tensors: Sequence[Any], engine: Engine, step: StepContext) -> list[Any]:
    if step.in_xla:
        raise CandleError(
            "A loss depends on the rows of all ranks, which needs a collective in the forward "
            "pass, and jit_compile has no collectives there. Use jit_compile=False, or let the "
            "loss return one number for each row."
        )
    step.calls += 1
    return backend.current().gather_rows(
        engine, tensors, step.rows, name=f"rows.{step.calls}", interleave=step.is_one_batch
    )
