"""A search's objective: whether it can come out of a trial, and what came out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
from keras_tuner.src.engine import tuner_utils

from keras_candle.errors import SearchError
from keras_candle.search.options import COST, MEASURES, parts_of

_HELD_OUT = ("validation_data", "validation_split")


def check_held_out(objective: Any, fit_kwargs: Mapping[str, Any]) -> None:
    """Refuse an objective that comes from validation, where there is none.

    Args:
        objective: the search's.
        fit_kwargs: what `fit` gets.

    Raises:
        SearchError: with what to give.
    """
    if any(fit_kwargs.get(name) for name in _HELD_OUT):
        return
    for each in parts_of(objective):
        if each.name.startswith("val_"):
            raise SearchError(
                f"The objective {each.name!r} comes from validation, and search() got neither "
                "validation_data nor validation_split. Give it one, or another objective."
            )


def metrics_of(oracle: Any, trial: Any, results: Any) -> tuple[dict[str, Any], int]:
    """What a trial returned, as Keras Tuner takes it.

    Args:
        oracle: the search's, with the objective.
        trial: that was run.
        results: of `run_trial`: a number, a dict, a `keras.callbacks.History`, or a list of these;
            None where it has called `oracle.update_trial` itself.

    Returns:
        Name to number, and the best step.

    Raises:
        SearchError: when the objective is not among them.
    """
    objective = oracle.objective
    if results is None and oracle.trials[trial.trial_id].metrics.exists(objective.name):
        return {}, trial.best_step
    for each in results if isinstance(results, list) else [results]:
        if isinstance(each, keras.callbacks.History | dict):
            _check_names(objective, getattr(each, "history", each))
    tuner_utils.validate_trial_results(results, objective, "run_trial()")
    metrics = tuner_utils.convert_to_metrics_dict(results, objective)
    return metrics, tuner_utils.get_best_step(results, objective)


def _check_names(objective: Any, logs: Iterable[str]) -> None:
    for each in parts_of(objective):
        if each.name not in (*logs, *MEASURES, COST):
            raise SearchError(
                f"The objective {each.name!r} is not among what a trial returned: "
                f"{', '.join(sorted(logs))}. Name one of these, or let the model report it."
            )
