"""config.json of a run directory: the run's arguments, with all defaults."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.resume.git_revision import script_revision
from keras_candle.training.options import ScalingOptions

_PACKAGES = ("keras-candle", "keras", "tensorflow", "tensorflow-cpu", "numpy", "horovod", "mpi4py")
_OF_FIT = (
    "batch_size",
    "epochs",
    "initial_epoch",
    "shuffle",
    "steps_per_epoch",
    "validation_batch_size",
    "validation_freq",
    "validation_split",
    "validation_steps",
)


def config_of(
    callback: dict[str, Any],
    options: ScalingOptions | None,
    engine: Engine,
    call: Mapping[str, Any],
) -> str:
    """Return the text of config.json.

    Args:
        callback: the arguments of CandleCallback.
        options: those of `@candle.scalable`; None for a model that is not scaled.
        engine: connects the ranks.
        call: the arguments of `fit`.

    Returns:
        JSON, without values from the environment, the command line or the data.
    """
    fit = {name: call[name] for name in _OF_FIT if name in call}
    config = {
        "callback": callback,
        "scalable": None if options is None else asdict(options),
        "fit": fit,
        "ranks": engine.size,
        "engine": engine.name,
        "git": script_revision(),
        "backend": keras.backend.backend(),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }
    return json.dumps(config, indent=1, default=_named)


def _named(value: Any) -> str:
    # A scaling rule can be a function.
    return getattr(value, "__name__", str(value))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
