"""Keras Tuner's tuners, oracles and hyperparameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.src.engine import objective as _objective
from keras_tuner.src.engine import tuner_utils as _tuner_utils

from keras_candle.keras_private.contract import private_attribute

MultiObjective: Any = private_attribute(_objective, "MultiObjective", "several objectives")
create_objective: Any = private_attribute(_objective, "create_objective", "objectives by name")

_RESULTS = "the results of trials"
average_metrics_dicts: Any = private_attribute(_tuner_utils, "average_metrics_dicts", _RESULTS)
convert_to_metrics_dict: Any = private_attribute(_tuner_utils, "convert_to_metrics_dict", _RESULTS)
get_best_step: Any = private_attribute(_tuner_utils, "get_best_step", _RESULTS)
validate_trial_results: Any = private_attribute(_tuner_utils, "validate_trial_results", _RESULTS)


def display_of(oracle: Any) -> Any:
    """Return what prints an oracle's trials."""
    return private_attribute(oracle, "_display", "Keras Tuner's lines on trials")


def check_objective(oracle: Any, metrics: dict[str, Any]) -> None:
    """Raise Keras Tuner's error where a trial's metrics lack the objective."""
    private_attribute(oracle, "_check_objective_found", _RESULTS)(metrics)


def project_directory(oracle: Any) -> Path:
    """Return the folder of an oracle's search."""
    return Path(private_attribute(oracle, "_project_dir", "the folder of a search"))


def trial_directory(oracle: Any, trial_id: str) -> Path:
    """Return the folder of a trial."""
    return Path(private_attribute(oracle, "_get_trial_dir", "the folder of a trial")(trial_id))


def populate_space(tuner: Any) -> None:
    """Find a hypermodel's hyperparameters, as a tuner does when it is made."""
    private_attribute(tuner, "_populate_initial_space", "the space of a search")()


def checkpoint_path(tuner: Any, trial_id: str) -> str:
    """Return the file with the weights of a trial's best epoch."""
    path: str = private_attribute(tuner, "_get_checkpoint_fname", "weights of trials")(trial_id)
    return path


def build_config_path(tuner: Any, trial_id: str) -> Path:
    """Return the file with the input shapes of a trial's model."""
    purpose = "models of trials without input shapes"
    return Path(private_attribute(tuner, "_get_build_config_fname", purpose)(trial_id))


def copy_space(source: Any, values: dict[str, Any]) -> Any:
    """Return `HyperParameters` with new values, which share the hyperparameters themselves.

    Args:
        source: Keras Tuner's `HyperParameters`.
        values: by name.
    """
    purpose = "hyperparameters with other values"
    made = keras_tuner.HyperParameters.from_config({"space": [], "values": values})
    private_attribute(made, "_space", purpose)[:] = private_attribute(source, "_space", purpose)
    by_name = private_attribute(made, "_hps", purpose)
    for name, same in private_attribute(source, "_hps", purpose).items():
        by_name[name] = list(same)
    return made


def stepped_values(hyperparameter: Any) -> list[Any]:
    """Return the values of an `Int` or `Float` with a step, the lowest first."""
    purpose = "hyperparameters with a step"
    count = private_attribute(hyperparameter, "_get_n_values", purpose)()
    at = private_attribute(hyperparameter, "_get_value_by_index", purpose)
    return [at(number) for number in range(count)]
