"""Rescale each rank's loss so that its average over ranks is the loss of the global batch.

The ranks' gradients and losses are averaged by rows. That is the mean over the global batch only
where a loss divides by the number of rows. A loss with another divisor (the unmasked values, the
sum of the sample weights, none) gets the factor that corrects it. Where a loss depends on several
rows (a sum or a quotient of sums over the batch, a contrastive loss) no factor exists: the loss is
computed from the rows of all ranks.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_candle import backend
from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError
from keras_candle.keras_private.models import compile_loss, compiled_losses, get_keras_mask
from keras_candle.training.probe_rows import looks_across_rows
from keras_candle.training.step_context import StepContext, gather_structure

_MEANS = ("sum_over_batch_size", "mean")


def check_reductions(model: Any) -> None:
    """Refuse a loss without a reduction.

    Raises:
        CandleError: naming the loss and a reduction to use.
    """
    for loss in keras.tree.flatten(model.loss):
        reduction = getattr(loss, "reduction", _MEANS[0])
        if reduction not in (*_MEANS, "sum", "mean_with_sample_weight"):
            raise CandleError(
                f"The loss {loss.name} has reduction={reduction!r}, so it is a vector, and its "
                "gradient would depend on how the ranks divide a batch. Use "
                "reduction='sum_over_batch_size' or 'sum'."
            )


def weigh_losses(model: Any, engine: Engine, step: StepContext, *, exact: bool = False) -> None:
    """Rescale the compiled losses of a model to their parts of the global batch's loss.

    Args:
        model: a model that is compiled and built; a second call changes nothing.
        engine: connects the ranks.
        step: the context of the step that is being traced. Where each rank has its own batch,
            losses stay as they are.
        exact: whether all losses are computed from the rows of all ranks.
    """
    losses = compiled_losses(model)
    for number, each in enumerate(losses):
        if each.loss is not None and not isinstance(each.loss, _GlobalLoss):
            loss = _GlobalLoss(each.loss, engine, step, f"loss.{number}", exact)
            losses[number] = each._replace(loss=loss)
    if len(losses) > 1:
        for tracker in compile_loss(model).metrics:
            _weigh_tracker(tracker, engine, step)


class _GlobalLoss:
    """A loss, times the rank's fraction of the divisor of the global batch's loss."""

    def __init__(
        self, plain: Any, engine: Engine, step: StepContext, name: str, exact: bool
    ) -> None:
        self._plain, self._engine, self._step, self._name = plain, engine, step, name
        self._exact = exact
        self._looks_across: bool | None = None
        self.name = getattr(plain, "name", None)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        step = self._step
        if step.training and step.rows is not None and self._needs_all_rows(y_true, y_pred):
            return self._plain(
                *gather_structure([y_true, y_pred, sample_weight], self._engine, step)
            )
        loss = self._plain(y_true, y_pred, sample_weight)
        if not (step.training and step.is_one_batch and step.rows is not None):
            return loss
        reduction = getattr(self._plain, "reduction", _MEANS[0])
        if reduction == "sum":
            return loss / _fraction_of_rows(step, loss.dtype)
        divisor = _divisor(self._plain, reduction, y_true, y_pred, sample_weight)
        if divisor is None:
            return loss
        return loss * self._fraction(divisor, loss.dtype) / _fraction_of_rows(step, loss.dtype)

    def _needs_all_rows(self, y_true: Any, y_pred: Any) -> bool:
        if self._exact or not self._step.is_one_batch:
            return self._exact
        if self._looks_across is None:
            self._looks_across = looks_across_rows(self._plain, y_true, y_pred)
        return self._looks_across

    def _fraction(self, own: Any, dtype: Any) -> Any:
        """The rank's fraction of the sum over ranks; a constant for gradients."""
        if self._step.in_xla:
            raise CandleError(
                f"The loss {self.name} divides by a mask or by sample weights, which the ranks "
                "must add up in the forward pass, and jit_compile has no collectives there. Use "
                "jit_compile=False or batch='replica'."
            )
        # The placeholder row of an empty rank has weight 0.
        own = ops.stop_gradient(ops.where(self._step.rows > 0, ops.cast(own, "float32"), 0.0))
        (whole,) = backend.current().sum_in_step(self._engine, [own], name=self._name)
        return ops.cast(ops.divide_no_nan(own, ops.stop_gradient(whole)), dtype)


def _fraction_of_rows(step: StepContext, dtype: Any) -> Any:
    # A rank without rows has no loss, but its step needs a finite number.
    rows = ops.maximum(step.rows, 1)
    return ops.cast(rows, dtype) / ops.cast(step.total, dtype)


def _divisor(loss: Any, reduction: str, y_true: Any, y_pred: Any, sample_weight: Any) -> Any:
    """The divisor of a loss; None where it is the number of values."""
    mask = get_keras_mask(y_pred)
    ignored = getattr(loss, "ignore_class", None)
    if ignored is not None:
        counts = ops.not_equal(ops.cast(y_true, "int64"), ignored)
        if mask is not None:
            counts = ops.logical_and(ops.reshape(counts, ops.shape(mask)), ops.cast(mask, "bool"))
        mask = counts
    if reduction == "mean_with_sample_weight":
        if sample_weight is None:
            return None if mask is None else ops.count_nonzero(mask)
        weights = ops.cast(sample_weight, "float32")
        if mask is None:
            return ops.sum(weights)
        mask = ops.cast(mask, "float32")
        while (ops.ndim(weights) or 0) < (ops.ndim(mask) or 0):
            weights = weights[..., None]
        return ops.sum(weights * mask)
    return None if mask is None else ops.count_nonzero(mask)


def _weigh_tracker(tracker: Any, engine: Engine, step: StepContext) -> None:
    """Weight the running mean of one of several losses by the rank's fraction of a batch's rows.

    Keras counts each batch as one there.
    """
    plain = type(tracker).update_state

    def update_state(values: Any, sample_weight: Any = None) -> Any:
        if step.training and step.knows_total and step.rows is not None:
            fraction = _fraction_of_rows(step, "float32") * engine.size
            sample_weight = fraction if sample_weight is None else sample_weight
        return plain(tracker, values, sample_weight=sample_weight)

    tracker.update_state = update_state
