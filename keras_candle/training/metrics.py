"""Exact global metrics: combine the metrics' states over the ranks, then compute the result.

Updates that may not be sums over rows are hooked. A user's own metric is examined at its first
update, when the shapes of its arguments are known. A function metric that depends on several rows
of a batch (an R2 as a quotient of sums) is computed from the rows of all ranks where these divide
one batch. A mean of one number a batch counts each rank's number by its rows there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError
from keras_candle.keras_private.models import metric_direction, metric_function
from keras_candle.training.probe_rows import (
    ProbeCall,
    empty_call,
    examine,
    function_looks_across_rows,
)
from keras_candle.training.reductions import (
    assigned_variables,
    not_additive,
    reduce_arrays,
    reductions_of,
    unregistered_metrics,
    with_parts,
)
from keras_candle.training.step_context import StepContext, gather_structure


def metric_variables(model: Any) -> list[Any]:
    """Return the state variables of all metrics of a model, in a fixed order."""
    return [variable for metric in model.metrics for variable in metric.variables]


def direction_in_model(model: Any, name: str) -> str | None:
    """Return "min" or "max", the better direction of a model's metric; None if unknown to Keras.

    Args:
        model: a compiled model.
        name: of the metric, as in an epoch's logs.
    """
    asked = name.removeprefix("val_")
    parts = [part for each in model.metrics for part in (each, *getattr(each, "metrics", ()))]
    # An output's name may precede the metric's.
    found = [each for each in parts if f"_{asked}".endswith(f"_{each.name}")]
    longest = max(found, key=lambda each: len(each.name), default=None)
    return metric_direction(longest)


def global_result(
    model: Any, engine: Engine, compute: Callable[[Any], Any], logs: Any
) -> dict[str, Any]:
    """Compute the metrics over the rows of all ranks.

    The mean of the ranks' results would be wrong for nearly every metric, and even for a mean
    when the ranks hold unequal numbers of rows. So this combines the states, see
    `register_metric_reduction`, and computes the result from them.

    Args:
        model: the model whose metrics have seen this rank's rows.
        engine: connects the ranks.
        compute: Keras's own function from the metrics' state to logs.
        logs: this rank's logs of the last step, which Keras uses where a custom step returns
            other values than the metrics.

    Returns:
        The logs, the same bits on every rank. The metrics' own state is as before.
    """
    variables = metric_variables(model)
    own = [keras.ops.convert_to_numpy(variable) for variable in variables]
    try:
        reductions = reductions_of(model.metrics)
        whole = reduce_arrays(own, [reductions[id(each)] for each in variables], engine)
        for variable, state in zip(variables, whole, strict=True):
            variable.assign(state)
        recompute_metrics(model)
        result = compute(logs)
        # A custom step may return the results of several metrics under one name.
        values = keras.tree.map_structure(_plain, dict(result))
    finally:
        for variable, state in zip(variables, own, strict=True):
            variable.assign(state)
    if result is logs:
        names = keras.tree.map_structure(lambda _: "", values)
        engine.agree("the names in the logs of the training step", names)
        return dict(keras.tree.map_structure(lambda x: _plain(engine.allreduce(x, "mean")), values))
    return dict(engine.broadcast(values))


def _plain(value: Any) -> Any:
    array = keras.ops.convert_to_numpy(value)
    return float(array) if array.ndim == 0 else array


def watch_metrics(model: Any, engine: Engine, step: StepContext) -> None:
    """Hook the metrics of a built model; a second call changes nothing.

    Args:
        model: the model.
        engine: connects the ranks.
        step: the context of the step that is being traced.

    Raises:
        CandleError: for a metric whose states are known not to combine, see
            `unregistered_metrics`; a further one may be refused at its first update.
    """
    for metric in unregistered_metrics(model):
        if not hasattr(metric.update_state, "candle_plain"):
            metric.update_state = _ExaminedUpdate(metric, step)
    for metric in with_parts(model.metrics):
        is_function = type(metric) is keras.metrics.MeanMetricWrapper
        if is_function and not hasattr(metric.update_state, "candle_plain"):
            metric.update_state = _of_all_rows(metric, engine, step)
        is_mean = type(metric) is keras.metrics.Mean
        if is_mean and not hasattr(metric.update_state, "candle_plain"):
            metric.update_state = _by_rows(metric, step)


def recompute_metrics(model: Any) -> None:
    """Recompute the variables that metrics derive from sums, after the sums were reduced."""
    for metric in with_parts(model.metrics):
        call = getattr(metric.update_state, "candle_recompute", None)
        if call:
            metric.update_state(*call.args, **call.kwargs)


class _ExaminedUpdate:
    """The `update_state` of a user's own metric; examines the metric when it is first called.

    Attributes:
        candle_plain: the metric's own `update_state`.
        candle_reductions: the reductions of its variables, by their ids.
        candle_recompute: arguments of an update that recomputes variables, or None.
    """

    def __init__(self, metric: Any, step: StepContext) -> None:
        self._metric, self._step = metric, step
        self._is_new = self._by_rows = True
        self.candle_plain = metric.update_state
        self.candle_reductions: dict[int, str | None] = {}
        self.candle_recompute: ProbeCall | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._is_new:
            self._is_new = False  # the examination calls this, too
            try:
                self._examine(ProbeCall(args, kwargs))
            except CandleError:
                self._is_new = True  # the next call refuses it again
                raise
        step = self._step
        divided = step.training and step.is_one_batch and step.rows is not None
        if self._by_rows or not divided:
            return self.candle_plain(*args, **kwargs)
        kind = type(self._metric).__qualname__
        raise CandleError(
            f"The metric {self._metric.name} ({kind}) depends on each batch as a whole, "
            "and with batch='global' the ranks divide a batch. Let it add up values of rows "
            "and compute in result(), use batch='replica', or accept the values of the parts of a "
            f"batch: candle.register_metric_reduction({kind}, {{}})."
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
                "by self.add_variable(...), or declare that its variables suffice: "
                f"candle.register_metric_reduction({kind}, {{}})."
            )
        self.candle_reductions = {id(variable): reduction for variable, reduction in pairs}
        self._by_rows = found.by_rows
        if found.recomputes:
            self.candle_recompute = empty_call(*call)


def _by_rows(metric: Any, step: StepContext) -> Any:
    """A mean of one number a batch, such as the loss of a custom `train_step`.

    Where the ranks divide a batch, each rank's number counts by its fraction of the rows.
    """
    plain = metric.update_state

    def update_state(values: Any, sample_weight: Any = None) -> Any:
        divided = step.training and step.is_one_batch and step.rows is not None
        if divided and sample_weight is None and keras.ops.ndim(values) == 0:
            rows, total = (keras.ops.cast(each, "float32") for each in (step.rows, step.total))
            return plain(values, sample_weight=rows / total)
        return plain(values, sample_weight=sample_weight)

    update_state.candle_plain = plain  # type: ignore[attr-defined]
    return update_state


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
        # Every rank with rows adds the whole batch: its fraction of rows makes that once in total.
        part = keras.ops.cast(step.rows, "float32") / keras.ops.cast(step.total, "float32")
        return plain(*data, part if weight is None else part * weight)

    update_state.candle_plain = plain  # type: ignore[attr-defined]
    return update_state
