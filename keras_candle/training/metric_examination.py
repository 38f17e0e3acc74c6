"""Find out with probe rows how the states of a user's metric combine over the ranks.

Variables that are sums can be added up over the ranks. Variables that each update computes from
such sums (an F1 from its precision and recall) can be computed again from the sums of all ranks,
by an update without rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.training.probe_rows import ProbeCall, calls_like

_ROWS = (3, 5)


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
    import tensorflow as tf

    with tf.init_scope():  # out of the graph that is being traced
        tries = [_try(metric, batches) for batches in calls_like(args, kwargs, *_ROWS)]
        probes = [each for each in tries if each is not None]
        return _examined(metric, probes, empty_call(args, kwargs)) if probes else None


def empty_call(args: Any, kwargs: Any) -> ProbeCall:
    """Return arguments like those of an update, without rows."""
    import tensorflow as tf

    with tf.init_scope():
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
