"""Reductions over the ranks: of arrays, and of the states of metrics."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError
from keras_candle.keras_private.models import metric_parts

REDUCTIONS = ("sum", "mean", "min", "max", "root")


def check_reductions(function: str, reductions: Mapping[str, str]) -> dict[str, str]:
    """Return the reductions of a registration as a dict, if all are valid.

    Args:
        function: the name of the public function that got them.
        reductions: from names of variables to reductions.

    Raises:
        CandleError: when one is unknown.
    """
    for name, reduction in reductions.items():
        if reduction not in REDUCTIONS:
            raise CandleError(
                f"{function} got {reduction!r} for the variable {name!r}, expected "
                f"one of {', '.join(map(repr, REDUCTIONS))}."
            )
    return dict(reductions)


def reduce_arrays(
    arrays: Sequence[NDArray[Any]], reductions: Sequence[str], engine: Engine
) -> list[NDArray[Any]]:
    """Combine arrays over the ranks, with one collective for each kind of reduction.

    Args:
        arrays: this rank's arrays.
        reductions: the reduction of each array, the same on all ranks.
        engine: connects the ranks.

    Returns:
        Arrays of the same shapes and dtypes.
    """
    whole = list(arrays)
    for reduction in REDUCTIONS:
        some = [i for i, each in enumerate(reductions) if each == reduction]
        if not some:
            continue
        flat = np.concatenate([np.ravel(arrays[i]).astype(np.float64) for i in some])
        flat = engine.broadcast(flat) if reduction == "root" else engine.allreduce(flat, reduction)
        start = 0
        for i in some:
            part = flat[start : start + arrays[i].size].reshape(arrays[i].shape)
            whole[i] = part.astype(arrays[i].dtype)
            start += arrays[i].size
    return whole


def combine_arrays(of_ranks: Sequence[NDArray[Any]], reduction: str) -> NDArray[Any]:
    """Combine the values of one array on several ranks, without an engine.

    Example:
        >>> combine_arrays([np.array(1), np.array(2)], "sum")
        array(3)
    """
    if reduction == "root":
        return np.asarray(of_ranks[0])
    combine: dict[str, Any] = {"sum": np.sum, "mean": np.mean, "min": np.min, "max": np.max}
    stacked = np.stack([np.asarray(each, np.float64) for each in of_ranks])
    return np.asarray(combine[reduction](stacked, axis=0)).astype(np.asarray(of_ranks[0]).dtype)


# metric class -> {variable name: reduction}, for states that are not sums
_REGISTERED: dict[type, dict[str, str]] = {}

# In Keras up to 3.8 the default is "mean": an explicit "mean" counts as undeclared there.
_DEFAULT_AGGREGATION = inspect.signature(keras.Variable.__init__).parameters["aggregation"].default
_AGGREGATIONS = {"mean": "mean", "only_first_replica": "root"}


def register_metric_reduction(metric: type, reductions: Mapping[str, str]) -> None:
    """Register how a metric's states combine over the ranks, where they do not add up.

    All of Keras's own metrics are functions of sums. Your own metric may keep another state, such
    as the largest value seen.

    Args:
        metric: a subclass of `keras.metrics.Metric`; subclasses inherit the registration.
        reductions: from the names of its variables, as in `add_variable(name=...)`, to "sum",
            "mean", "min", "max" or "root" (the value of rank 0). Other variables stay sums.

    Raises:
        CandleError: when `metric` is not a metric class, or a reduction is unknown.

    Example:
        >>> class Largest(keras.metrics.Metric):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.largest = self.add_variable((), "zeros", name="largest")
        ...
        ...     def update_state(self, y_true, y_pred, sample_weight=None):
        ...         self.largest.assign(keras.ops.maximum(self.largest, keras.ops.max(y_pred)))
        ...
        ...     def result(self):
        ...         return self.largest
        >>> register_metric_reduction(Largest, {"largest": "max"})
    """
    if not (isinstance(metric, type) and issubclass(metric, keras.metrics.Metric)):
        raise CandleError(
            f"register_metric_reduction got {metric!r}, expected a subclass of "
            "keras.metrics.Metric."
        )
    _REGISTERED[metric] = check_reductions("register_metric_reduction", reductions)


def reductions_of(metrics: Any) -> dict[int, str]:
    """Return the reduction of each variable of some metrics, by the variable's id."""
    found: dict[int, str] = {}
    for metric in with_parts(metrics):
        registered = _registered_for(metric)
        examined = getattr(metric.update_state, "candle_reductions", {})
        for variable in metric.variables:
            # "sum" is the default: it never replaces the reduction that a part gives its variable.
            reduction = registered.get(variable.name) or examined.get(id(variable))
            reduction = reduction or _declared_by(variable)
            if reduction != "sum" or id(variable) not in found:
                found[id(variable)] = reduction
    return found


def unregistered_metrics(model: Any) -> list[Any]:
    """Return the user's own metrics in a model for which no reduction is registered.

    Raises:
        CandleError: naming the metric, its variable and the line to add, when one keeps a running
            minimum or maximum, or keeps its state in no variable.
    """
    found = []
    for metric in with_parts(model.metrics):
        kind = type(metric)
        by_keras = kind.__module__.partition(".")[0] == "keras"
        if by_keras or any(each in _REGISTERED for each in kind.mro()):
            continue
        if any(_declared_by(variable) != "sum" for variable in metric.variables):
            continue  # the metric declares itself how they combine
        if not metric.variables:
            raise CandleError(
                f"The metric {metric.name} ({kind.__qualname__}) keeps its state in no variable, "
                "so the ranks' states can't be combined. Make its state in __init__ with "
                "self.add_variable(...)."
            )
        for attribute, reduction in _extremes(kind):
            name = getattr(getattr(metric, attribute, None), "name", attribute)
            raise not_additive(metric, name, reduction)
        found.append(metric)
    return found


def not_additive(metric: Any, name: str, reduction: str | None) -> CandleError:
    """Return the error for a metric whose variable is not a sum.

    Args:
        metric: the metric.
        name: of its variable.
        reduction: "min" or "max" where the variable is known to be an extreme.
    """
    kind = type(metric).__qualname__
    what = f"keeps a {reduction}imum in {name!r}, and" if reduction else f"assigns {name!r}, so"
    choice = "" if reduction else ", with 'sum', 'mean', 'min', 'max' or 'root'"
    return CandleError(
        f"The metric {metric.name} ({kind}) {what} the ranks' states cannot be added up. Register "
        f"how they combine: candle.register_metric_reduction({kind}, {{{name!r}: "
        f"{reduction or 'root'!r}}}){choice}. Or let it add to its variables and compute in "
        "result()."
    )


def with_parts(metrics: Any) -> Iterator[Any]:
    """Yield metrics, each followed by the metrics that it consists of."""
    for metric in metrics:
        yield metric
        parts = [*getattr(metric, "metrics", ()), *metric_parts(metric)]
        inner = (each for each in parts if isinstance(each, keras.metrics.Metric))
        yield from with_parts(each for each in inner if each is not metric)


def _registered_for(metric: Any) -> dict[str, str]:
    return next((_REGISTERED[kind] for kind in type(metric).mro() if kind in _REGISTERED), {})


def _declared_by(variable: Any) -> str:
    declared = getattr(variable, "aggregation", "sum")
    return "sum" if declared == _DEFAULT_AGGREGATION else _AGGREGATIONS.get(declared, "sum")


def assigned_variables(metric: Any) -> list[str]:
    """Return the names of variables that `update_state` overwrites without reading them."""
    found = []
    for attribute, value in _assignments(type(metric), "update_state"):
        reads = any(getattr(each, "attr", None) == attribute for each in ast.walk(value))
        if not reads:
            found.append(getattr(getattr(metric, attribute, None), "name", attribute))
    return found


def _extremes(kind: type) -> Iterator[tuple[str, str]]:
    """(attribute, "min" or "max") for each `self.a.assign(maximum(self.a, ...))`."""
    for attribute, value in _assignments(kind):
        match value:
            case ast.Call(func=function, args=values):
                name = getattr(function, "attr", getattr(function, "id", ""))
                reads_itself = any(getattr(each, "attr", None) == attribute for each in values)
                if reads_itself and name in ("maximum", "minimum", "max", "min"):
                    yield attribute, name[:3]


def _assignments(kind: type, method: str | None = None) -> Iterator[tuple[str, ast.expr]]:
    """(attribute, value) for each `self.a.assign(value)` in a class, or in one of its methods."""
    try:
        source = inspect.getsource(getattr(kind, method) if method else kind)
        tree = ast.parse(textwrap.dedent(source))
    except (OSError, TypeError, SyntaxError):
        return  # defined at a prompt: no source to read
    for call in ast.walk(tree):
        match call:
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr=attribute), attr="assign"),
                args=[value, *_],
            ):
                yield attribute, value
