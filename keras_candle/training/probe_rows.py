"""Examine with probe rows how losses and metrics depend on the rows of a batch.

A loss or function metric may depend on several rows at once. The variables of a metric combine over
the ranks in one of several ways: those that are sums can be added up; those that each update
computes from such sums (an F1 from its precision and recall) can be computed again from the sums of
all ranks, by an update without rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle import backend

# Pairs of labels; the later pairs have the labels that losses and metrics ignore most often.
_LABELS = ((0, 1), (-1, 1), (-100, 1), (255, 0))
_UNKNOWN_DIMENSION = 3


class ProbeCall(NamedTuple):
    """Positional and keyword arguments of a call with probe rows."""

    args: Any
    kwargs: Any


def batches(y_true: Any, y_pred: Any, rows: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield targets and predictions like those of a step, with several kinds of labels.

    Args:
        y_true: tensor of targets; only shape and dtype are used.
        y_pred: tensor of predictions; only shape and dtype are used.
        rows: the number of rows.
    """
    random = np.random.default_rng(0)
    for labels in _LABELS:
        yield _labels(y_true, labels, rows, random), _guesses(y_pred, rows, random)


def calls_like(args: Any, kwargs: Any, *rows: int) -> Iterator[list[ProbeCall]]:
    """Yield calls with tensors like those of a call, with several kinds of labels.

    Args:
        args: positional arguments. Where there are several, the first is the labels.
        kwargs: keyword arguments; `y_true` is the labels.
        *rows: the number of rows of each call. A tensor without dimensions has no rows.
    """
    random = np.random.default_rng(0)
    for labels in _LABELS:
        yield [_call_like(args, kwargs, number, labels, random) for number in rows]


def _call_like(
    args: Any, kwargs: Any, rows: int, labels: Any, random: np.random.Generator
) -> ProbeCall:
    def like(value: Any, *, is_label: bool) -> Any:
        return keras.tree.map_structure(lambda each: tensor_like(each, is_label=is_label), value)

    def tensor_like(tensor: Any, *, is_label: bool) -> Any:
        if not (hasattr(tensor, "dtype") and hasattr(tensor, "shape")):
            return tensor
        if is_label or not keras.backend.is_float_dtype(_dtype(tensor)):
            return keras.ops.convert_to_tensor(_labels(tensor, labels, rows, random))
        return keras.ops.convert_to_tensor(_guesses(tensor, rows, random))

    several = len(args) > 1
    return ProbeCall(
        [like(each, is_label=several and place == 0) for place, each in enumerate(args)],
        {name: like(each, is_label=name == "y_true") for name, each in kwargs.items()},
    )


def _labels(tensor: Any, labels: Any, rows: int, random: np.random.Generator) -> NDArray[Any]:
    made = random.choice(labels, size=_shape(tensor, rows))
    made.flat[: len(labels)] = labels[: made.size]
    return np.asarray(made).astype(_dtype(tensor))


def _guesses(tensor: Any, rows: int, random: np.random.Generator) -> NDArray[Any]:
    return np.asarray(random.uniform(0.05, 0.95, _shape(tensor, rows))).astype(_dtype(tensor))


def _shape(tensor: Any, rows: int) -> list[int]:
    shape = [_UNKNOWN_DIMENSION if each is None else int(each) for each in tensor.shape]
    return [rows, *shape[1:]] if shape else []


def _dtype(tensor: Any) -> str:
    return str(keras.backend.standardize_dtype(tensor.dtype))


_ROWS = 4


def looks_across_rows(loss: Any, y_true: Any, y_pred: Any) -> bool:
    """Whether the loss of a batch depends on more than the separate losses of its rows.

    True where the loss returns one number for all rows, and where its values for probe rows change
    with the other rows of the batch.

    Args:
        loss: a `keras.losses.Loss`.
        y_true: targets of a step; only shape and dtype are used.
        y_pred: predictions of a step; only shape and dtype are used.
    """
    if type(loss).__call__ is not keras.losses.Loss.__call__:
        return True  # it returns one number, of an unknown reduction
    if keras.tree.is_nested(y_true) or keras.tree.is_nested(y_pred):
        return True
    return function_looks_across_rows(
        lambda *data: loss.call(*(keras.ops.convert_to_tensor(each, loss.dtype) for each in data)),
        getattr(loss, "fn", loss),  # LossFunctionWrapper's
        y_true,
        y_pred,
    )


def function_looks_across_rows(call: Any, written: Any, y_true: Any, y_pred: Any) -> bool:
    """Whether a function of (y_true, y_pred) depends on several rows; see `looks_across_rows`.

    Args:
        call: calls the function.
        written: the unwrapped function, since Keras's own functions are known.
        y_true: targets of a step.
        y_pred: predictions of a step.
    """
    if backend.current().output_rank(call, y_true, y_pred) == 0 or written is keras.losses.circle:
        return True
    module = getattr(written, "__module__", None) or type(written).__module__
    by_keras = module.partition(".")[0] == "keras"
    if by_keras and written not in (keras.losses.dice, keras.losses.tversky):
        return False
    return _values_depend_on_batch(call, y_true, y_pred)


def _values_depend_on_batch(call: Any, y_true: Any, y_pred: Any) -> bool:
    with backend.current().eager():
        probes = batches(y_true, y_pred, _ROWS)
        return any(_differs_from_parts(call, truth, guess) for truth, guess in probes)


def _differs_from_parts(call: Any, *data: NDArray[Any]) -> bool:
    def values(rows: slice) -> NDArray[Any]:
        tensors = [keras.ops.convert_to_tensor(each[rows]) for each in data]
        return np.asarray(keras.ops.convert_to_numpy(call(*tensors)))

    try:
        whole = values(slice(None))
        parts = np.concatenate([values(slice(1)), values(slice(1, None))])
    except Exception:
        return False  # the loss does not accept these labels or shapes
    if whole.shape != parts.shape:
        return True
    known = np.isfinite(whole) & np.isfinite(parts)
    return not np.allclose(whole[known], parts[known], rtol=1e-4, atol=1e-5)


_ROWS_OF_BATCHES = (3, 5)


@dataclass(frozen=True)
class Examination:
    """How each variable of a metric combines over the ranks.

    Attributes:
        reductions: "sum" where the ranks' values add up, "root" for a constant and for a variable
            that an update without rows computes from the sums, None where it is unknown.
        recomputes: whether such an update computes a variable.
        suggested: "min" or "max" where the unknown variables are extremes.
        complete: whether the result is a function of the variables alone.
        by_rows: whether two batches give the same state as one batch of their rows.
    """

    reductions: list[str | None]
    recomputes: bool
    suggested: str | None
    complete: bool
    by_rows: bool


def examine(metric: Any, args: Any, kwargs: Any) -> Examination | None:
    """Update a metric with probe rows to find out how its variables combine.

    Args:
        metric: a `keras.metrics.Metric`. Its variables keep their values.
        args: arguments of an update; only shapes and dtypes are used.
        kwargs: keyword arguments of an update.

    Returns:
        The examination; None where the metric cannot be called with probe rows.
    """
    with backend.current().eager():  # out of the graph that is being traced
        tries = [_try(metric, batches) for batches in calls_like(args, kwargs, *_ROWS_OF_BATCHES)]
        probes = [each for each in tries if each is not None]
        return _examined(metric, probes, empty_call(args, kwargs)) if probes else None


def empty_call(args: Any, kwargs: Any) -> ProbeCall:
    """Return arguments like those of an update, without rows."""
    with backend.current().eager():
        return next(calls_like(args, kwargs, 0))[0]


@dataclass(frozen=True)
class _Probe:
    """States before any rows, after each of two batches alone, and after both; the last result."""

    states: list[tuple[NDArray[Any], ...]]
    result: Any
    by_rows: bool


def _examined(metric: Any, trials: Sequence[_Probe], empty: ProbeCall) -> Examination:
    reductions = [
        _reduction([each.states[i] for each in trials]) for i in range(len(metric.variables))
    ]
    unknown = [i for i, each in enumerate(reductions) if each is None]
    recomputes = bool(unknown) and all(
        _is_recomputed(metric, each, reductions, empty) for each in trials
    )
    if recomputes:
        reductions = [each or "root" for each in reductions]
    complete = None in reductions or all(
        _is_complete(metric, each, reductions, recomputes) for each in trials
    )
    by_rows = all(each.by_rows for each in trials)
    return Examination(reductions, recomputes, _extreme(trials, unknown), complete, by_rows)


def _try(metric: Any, batches: Sequence[ProbeCall]) -> _Probe | None:
    try:
        begin = _arrays(metric.stateless_reset_state())
        both = begin
        for each in batches:
            both = _updated(metric, both, each)
        result = _result(metric, both)
        alone = [_updated(metric, begin, each) for each in batches]
        at_once = _updated(metric, begin, _joined(*batches))
    except Exception:
        return None  # the metric does not accept these labels or shapes
    by_rows = all(map(_close, at_once, both))
    return _Probe(list(zip(begin, *alone, both, strict=True)), result, by_rows)


def _joined(call: ProbeCall, following: ProbeCall) -> ProbeCall:
    def join(first: Any, second: Any) -> Any:
        has_rows = len(getattr(first, "shape", ()))
        return keras.ops.concatenate([first, second]) if has_rows else first

    return ProbeCall(*keras.tree.map_structure(join, tuple(call), tuple(following)))


def _reduction(of_trials: list[tuple[NDArray[Any], ...]]) -> str | None:
    if all(_close(first + second, both) for _, first, second, both in of_trials):
        return "sum"
    constant = all(np.array_equal(begin, each) for begin, *rest in of_trials for each in rest)
    return "root" if constant else None


def _combined(trial: _Probe, reductions: Sequence[str | None]) -> list[NDArray[Any]]:
    return [
        first + second if reduction == "sum" else first
        for (_, first, second, _), reduction in zip(trial.states, reductions, strict=True)
    ]


def _is_recomputed(
    metric: Any, trial: _Probe, reductions: Sequence[str | None], empty: ProbeCall
) -> bool:
    try:
        again = _updated(metric, _combined(trial, reductions), empty)
    except Exception:
        return False
    return all(_close(value, states[-1]) for value, states in zip(again, trial.states, strict=True))


def _is_complete(
    metric: Any, trial: _Probe, reductions: Sequence[str | None], recomputes: bool
) -> bool:
    values = [states[-1] for states in trial.states] if recomputes else _combined(trial, reductions)
    again = keras.tree.flatten(_result(metric, values))
    return all(_close(a, b) for a, b in zip(again, keras.tree.flatten(trial.result), strict=True))


def _extreme(trials: Sequence[_Probe], unknown: Sequence[int]) -> str | None:
    extremes: dict[str, Callable[..., Any]] = {"max": np.maximum, "min": np.minimum}
    for name, extreme in extremes.items():
        states = [trial.states[i] for trial in trials for i in unknown[:1]]
        if states and all(
            _close(extreme(first, second), both) for _, first, second, both in states
        ):
            return name
    return None


def _updated(metric: Any, values: Sequence[NDArray[Any]], call: ProbeCall) -> list[NDArray[Any]]:
    return _arrays(metric.stateless_update_state(_tensors(values), *call.args, **call.kwargs))


def _result(metric: Any, values: Sequence[NDArray[Any]]) -> Any:
    mapping = list(zip(metric.variables, _tensors(values), strict=True))
    with keras.StatelessScope(state_mapping=mapping):
        # A result may be a variable itself, whose value exists in this scope only.
        return keras.tree.map_structure(keras.ops.convert_to_numpy, metric.result())


def _tensors(values: Sequence[NDArray[Any]]) -> list[Any]:
    return [keras.ops.convert_to_tensor(each) for each in values]


def _arrays(values: Sequence[Any]) -> list[NDArray[Any]]:
    return [np.asarray(keras.ops.convert_to_numpy(each)) for each in values]


def _close(value: NDArray[Any], expected: NDArray[Any]) -> bool:
    return value.shape == expected.shape and np.allclose(
        value, expected, rtol=1e-4, atol=1e-5, equal_nan=True
    )
