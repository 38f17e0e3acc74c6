"""The objectives of a search: their directions, and their values in the results of a trial."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_candle.errors import SearchError
from keras_candle.keras_private.keras_tuner import (
    MultiObjective,
    average_metrics_dicts,
    convert_to_metrics_dict,
    create_objective,
    get_best_step,
    validate_trial_results,
)
from keras_candle.metric_directions import direction_of

# Measured of each trial, and so usable as an objective, a cost or an axis of the front.
MEASURES = ("device_seconds", "peak_memory_bytes", "parameters", "prediction_latency_s")
COST = "cost"
_HELD_OUT = ("validation_data", "validation_split")


class SeveralObjectives(MultiObjective):  # type: ignore[misc]
    """Several objectives, of which those measured at a trial's end are in no epoch's logs."""

    def has_value(self, logs: Any) -> bool:
        """Return whether an epoch's logs have at least one of the objectives, to compare epochs."""
        return any(name in logs for name in self.name_to_direction)


def make_objective(given: Any) -> Any:
    """Return Keras Tuner's objective for the user's argument.

    Args:
        given: a name, a `keras_tuner.Objective`, a list of these, or None. Measured quantities
            (`MEASURES`, and "cost" for the one that `cost=` names) are minimised.

    Returns:
        A `keras_tuner.Objective`; None for None.

    Raises:
        SearchError: when an objective's direction cannot be inferred.
    """
    if isinstance(given, str):
        if given in (COST, *MEASURES):
            return keras_tuner.Objective(given, "min")
        direction = direction_of(given)
        if direction is not None:
            return keras_tuner.Objective(given, direction)
        try:
            return create_objective(given)
        except ValueError as cause:
            raise SearchError(
                f"objective={given!r}: cannot infer whether to minimise or maximise it. Pass "
                f"keras_tuner.Objective({given!r}, direction='min') or 'max', a Keras metric such "
                f"as 'val_loss', or one of {', '.join((COST, *MEASURES))}."
            ) from cause
    if isinstance(given, Sequence):
        if len(given) < 2:
            raise SearchError(f"objective={given!r}, expected at least two in a list.")
        return SeveralObjectives([make_objective(each) for each in given])
    if given is None:
        return None
    if isinstance(given, keras_tuner.Objective):
        for each in parts_of(given):
            if each.direction not in ("min", "max"):
                raise SearchError(
                    f"The objective {each.name!r} has direction={each.direction!r}, expected 'min' "
                    "or 'max'."
                )
        return given
    raise SearchError(f"objective={given!r}, expected a name or a keras_tuner.Objective.")


def parts_of(objective: Any) -> list[Any]:
    """Return the objectives of a `MultiObjective`, or a single objective as a list."""
    return list(getattr(objective, "objectives", [objective]))


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
