"""What the collectives of a training step have to know while TensorFlow traces it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class StepContext:
    """A rank's share of the step that is being traced.

    Attributes:
        rows: int32 scalar tensor, or None outside of a step.
        total: int32 scalar tensor, rows of the global batch; None outside of a step.
        rows_expected: about how many rows a rank has in one step.
        lookups_expected: at most how many embedding rows a rank's batch looks up.
        may_be_empty: whether `rows` can be 0 in this training.
        knows_total: whether `total` is known in this training.
        totals: rows of the global batch by those of this rank's part, for parts that are no
            `Shard`.
        is_one_batch: whether the global batch stands for one batch of one rank, and not for a
            batch of each rank: then a loss's reduction goes over all of it.
        training: whether this is a training step.
        calls: how many collectives of the forward pass the step has so far. A layer that is called
            twice has two, and Horovod wants two names.
        gathered: tensors of the step with all ranks' rows of them, by the tensor's id.
        split_for_xla: whether the forward and backward pass are compiled by XLA.
        in_xla: whether they are being traced for it: there are no collectives in there.
        averaged: variables, by id, that averaged gradients update.
        steps_without_rows: int64 tf.Variable that counts them, where they would be an error.
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
    averaged: dict[int, Any] = field(default_factory=dict)

    def record_averaged(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Keep the variables that get a gradient."""
        pairs = zip(gradients, variables, strict=True)
        self.averaged.update({id(each): each for gradient, each in pairs if gradient is not None})
