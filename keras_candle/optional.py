"""Packages that not every user has: found when needed, or an error that says how to get them."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from keras_candle.errors import CandleError

# import name -> what to type
REMEDIES = {
    "alembic": "install it: pip install 'keras-candle[mlflow]'",
    "horovod.tensorflow": "build it for your TensorFlow: pip install 'keras-candle[horovod]' "
    "&& candle build-horovod",
    "keras_tuner": "install it: pip install 'keras-candle[tune]'",
    "mlflow": "install it: pip install 'keras-candle[mlflow]'",
    "mpi4py.MPI": "install it: pip install mpi4py mpich",
    "scipy": "install it: pip install 'keras-candle[tune]'",
    "sklearn.datasets": "install it: pip install 'keras-candle[demo]'",
    "sqlalchemy": "install it: pip install 'keras-candle[mlflow]'",
    "tensorboard": "install it: pip install 'keras-candle[tensorboard]'",
    "tensorflow": "install it: pip install 'keras-candle[cpu]' (or [gpu])",
    "wandb": "install it: pip install 'keras-candle[wandb]'",
}


def load(name: str, needed_for: str, error: type[CandleError] = CandleError) -> Any:
    """Import a module that may be missing.

    Args:
        name: the module, one of `REMEDIES` or in one of them.
        needed_for: what the user asked for that needs it.
        error: the class of error to raise.

    Returns:
        The module.

    Raises:
        CandleError: of the class `error`, with the way to get the package.
    """
    try:
        module: ModuleType = importlib.import_module(name)
    except ImportError as cause:
        package = name.partition(".")[0]
        remedy = REMEDIES.get(name) or REMEDIES[package]
        raise error(
            f"{package} is needed for {needed_for} and cannot be loaded ({cause}); {remedy}"
        ) from cause
    return module


def require(name: str, needed_for: str) -> None:
    """Look for a package without importing it.

    Args:
        name: the package, one of `REMEDIES`.
        needed_for: what the user asked for that needs it.

    Raises:
        CandleError: with the way to get the package.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:  # a folder of that name is no package
        raise CandleError(f"{name} is needed for {needed_for} and is not there; {REMEDIES[name]}")
