"""Import optional packages, or raise an error with the command that installs them."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from keras_candle.errors import CandleError

# import name -> command to install it
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
        needed_for: the requested feature that needs it.
        error: the class of error to raise.

    Returns:
        The module.

    Raises:
        CandleError: of the class `error`, with the command that installs the package.
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
    """Check that a package is installed, without importing it.

    Args:
        name: the package, one of `REMEDIES`.
        needed_for: the requested feature that needs it.

    Raises:
        CandleError: with the command that installs the package.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:  # a folder of that name is not a package
        raise CandleError(
            f"{name} is needed for {needed_for} and is not installed; {REMEDIES[name]}"
        )
