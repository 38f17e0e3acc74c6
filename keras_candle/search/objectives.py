"""Check that trials can return a search's objective, and extract it from their results."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_candle.errors import SearchError
from keras_candle.keras_private.keras_tuner import (
    average_metrics_dicts,
    convert_to_metrics_dict,
    get_best_step,
    validate_trial_results,
)
from keras_candle.search.options import COST, parts_of

_HELD_OUT = ("validation_data", "validation_split")


def check_held_out(objective: Any, fit_kwargs: Mapping[str, Any]) -> None:
    """Refuse a validation objective without validation data.

    Args:
        objective: the search's.
        fit_kwargs: the keyword arguments for `fit`.

    Raises:
        SearchError: when the objective needs validation data and `fit` gets none.
    """
    if any(fit_kwargs.get(name) for name in _HELD_OUT):
        return
    for each in parts_of(objective):
        if each.name.startswith("val_"):
            raise SearchError(
                f"The objective {each.name!r} comes from validation, but search() got neither "
                "validation_data nor validation_split. Pass one of them, or choose another "
                "objective."
            )


def metrics_of(
    oracle: Any, trial: Any, results: Any, measured: Mapping[str, float]
) -> tuple[dict[str, Any], int]:
    """Return a trial's metrics and best step, as Keras Tuner expects them.

    Args:
        oracle: the search's, with the objective.
        trial: the trial that ran.
        results: of `run_trial`: a number, a dict, a `keras.callbacks.History`, or a list of these,
            which is averaged. A number is the value of a single objective; several objectives need
            a dict. None if `run_trial` called `oracle.update_trial` itself.
        measured: the trial's cost, name to number. A result of the same name overrides it.

    Returns:
        Name to number, and the best step.

    Raises:
        SearchError: when an objective is not among them.
    """
    objective = oracle.objective
    reported = oracle.trials[trial.trial_id].metrics
    if results is None and reported.exists(objective.name):
        return _reported(reported, objective, measured)
    known = {*measured, *([COST] if oracle.options.cost in measured else [])}
    found = [_of_one(each, objective, known)
             for each in (results if isinstance(results, list) else [results])]  # fmt: skip
    metrics = average_metrics_dicts([each for each, _ in found])
    return {**measured, **metrics}, int(np.mean([step for _, step in found]))


def _reported(
    reported: Any, objective: Any, measured: Mapping[str, float]
) -> tuple[dict[str, Any], int]:
    """The metrics that a trial reported to the oracle itself, at its best step."""
    step = reported.get_best_step(objective.name)
    if step is None:  # not a number, at any step
        step = reported.get_history(objective.name)[-1].step
    at_step = {
        name: each.mean()
        for name in reported.metrics
        for each in reported.get_history(name)
        if each.step == step
    }
    return {**measured, **at_step}, step


def _of_one(result: Any, objective: Any, known: Collection[str]) -> tuple[dict[str, Any], int]:
    """The metrics of one result, and its best step."""
    parts = parts_of(objective)
    if isinstance(result, keras.callbacks.History):
        history = result.history
        _check_names(parts, history, known)
        if any(each.name in history for each in parts):
            return (
                convert_to_metrics_dict(result, objective),
                get_best_step(result, objective),
            )
        # A measure of the whole trial has no best epoch.
        last = {name: values[-1] for name, values in history.items()}
        return last, max(map(len, history.values()), default=1) - 1
    if isinstance(result, dict):
        _check_names(parts, result, known)
        return result, 0
    validate_trial_results(result, objective, "run_trial()")
    if len(parts) > 1:
        raise SearchError(
            f"The trial returned the number {result}, but there are {len(parts)} objectives. "
            f"Return a dict with {', '.join(each.name for each in parts)}."
        )
    return convert_to_metrics_dict(result, objective), 0


def _check_names(parts: Iterable[Any], logs: Iterable[str], known: Collection[str]) -> None:
    for each in parts:
        if each.name not in (*logs, *known):
            raise SearchError(
                f"The objective {each.name!r} is not among what a trial returned: "
                f"{', '.join(sorted(logs))}. Name one of these, or let the model report it."
            )
