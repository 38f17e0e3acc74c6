"""The step context: facts that the collectives of a step use while TensorFlow traces it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_candle.training.fixed_lookups import Lookup


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
        steps_without_rows: int64 tf.Variable that counts steps without rows, where these are an
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
    lookups: dict[int, Lookup] = field(default_factory=dict)
    averaged: dict[int, Any] = field(default_factory=dict)

    def record_averaged(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Keep the variables that get a gradient."""
        pairs = zip(gradients, variables, strict=True)
        self.averaged.update({id(each): each for gradient, each in pairs if gradient is not None})
