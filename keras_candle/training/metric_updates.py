"""Hook the updates of metrics that cannot be taken for sums over rows.

A metric that the user wrote is examined at its first update, when the shapes of its arguments are
known. A function metric that looks across the rows of a batch (an R2 as a quotient of sums) is
computed from the rows of all ranks where these divide one batch.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError
from keras_candle.keras_private.models import metric_function
from keras_candle.training.global_rows import gather_structure
from keras_candle.training.loss_rows import function_looks_across_rows
from keras_candle.training.metric_examination import empty_call, examine
from keras_candle.training.metric_reductions import (
    assigned_variables,
    not_additive,
    unregistered_metrics,
    with_parts,
)
from keras_candle.training.probe_rows import ProbeCall
from keras_candle.training.step_context import StepContext


def watch_metrics(model: Any, engine: Engine, step: StepContext) -> None:
    """Hook the metrics of a built model; a second call changes nothing.

    Args:
        model: the model.
        engine: connects the ranks.
        step: this rank's share of the step that is being traced.

    Raises:
        CandleError: for a metric whose states are known not to combine, see
            `unregistered_metrics`; others are refused at their first update.
    """
    for metric in unregistered_metrics(model):
        if not hasattr(metric.update_state, "candle_plain"):
            metric.update_state = _Examined(metric, step)
    for metric in with_parts(model.metrics):
        is_function = type(metric) is keras.metrics.MeanMetricWrapper
        if is_function and not hasattr(metric.update_state, "candle_plain"):
            metric.update_state = _of_all_rows(metric, engine, step)


def recompute_metrics(model: Any) -> None:
    """Compute what metrics assign from their sums anew, when the sums are those of all ranks."""
    for metric in with_parts(model.metrics):
        call = getattr(metric.update_state, "candle_recompute", None)
        if call:
            metric.update_state(*call.args, **call.kwargs)


class _Examined:
    """The update of a metric that the user wrote.

    Attributes:
        candle_plain: the metric's own.
        candle_reductions: how its variables combine, by their ids.
        candle_recompute: arguments of an update that computes variables anew, or None.
    """

    def __init__(self, metric: Any, step: StepContext) -> None:
        self._metric, self._step = metric, step
        self._is_new = self._by_rows = True
        self.candle_plain = metric.update_state
        self.candle_reductions: dict[int, str | None] = {}
        self.candle_recompute: ProbeCall | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._is_new:
            self._is_new = False  # the examination comes here, too
            try:
                self._examine(ProbeCall(args, kwargs))
            except CandleError:
                self._is_new = True  # refused again the next time
                raise
        step = self._step
        divided = step.training and step.is_one_batch and step.rows is not None
        if self._by_rows or not divided:
            return self.candle_plain(*args, **kwargs)
        kind = type(self._metric).__qualname__
        raise CandleError(
            f"The metric {self._metric.name} ({kind}) computes something of each batch as a whole, "
            "and with batch='global' the ranks divide a batch. Let it add up what it takes from "
            "rows and compute in result(), use batch='replica', or accept what the parts of a "
            f"batch come to: candle.register_metric_reduction({kind}, {{}})."
        )

    def _examine(self, call: ProbeCall) -> None:
        metric, kind = self._metric, type(self._metric).__qualname__
        found = examine(metric, *call)
        if found is None:
            for name in assigned_variables(metric):
                raise not_additive(metric, name, None)
            return
        pairs = list(zip(metric.variables, found.reductions, strict=True))
        for variable, reduction in pairs:
            if reduction is None:
                raise not_additive(metric, variable.name, found.suggested)
        if not found.complete:
            raise CandleError(
                f"The metric {metric.name} ({kind}) does not compute its result from its variables "
                "alone, so the ranks' states can't be combined. Keep all state in variables made "
                "by self.add_variable(...), or say that what is there is enough: "
                f"candle.register_metric_reduction({kind}, {{}})."
            )
        self.candle_reductions = {id(variable): reduction for variable, reduction in pairs}
        self._by_rows = found.by_rows
        if found.recomputes:
            self.candle_recompute = empty_call(*call)


def _of_all_rows(metric: Any, engine: Engine, step: StepContext) -> Any:
    plain, function = metric.update_state, metric_function(metric)
    across: bool | None = None

    def update_state(y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        nonlocal across
        if not (step.training and step.is_one_batch and step.rows is not None):
            return plain(y_true, y_pred, sample_weight=sample_weight)
        if across is None:
            across = function_looks_across_rows(function, function.func, y_true, y_pred)
        if not across:
            return plain(y_true, y_pred, sample_weight=sample_weight)
        *data, weight = gather_structure([y_true, y_pred, sample_weight], engine, step)
        # The ranks with rows count the batch, which together is once.
        part = keras.ops.cast(step.rows, "float32") / keras.ops.cast(step.total, "float32")
        return plain(*data, part if weight is None else part * weight)

    update_state.candle_plain = plain  # type: ignore[attr-defined]
    return update_state
