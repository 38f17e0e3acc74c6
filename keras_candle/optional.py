"""Packages that not every user has: found when needed, or an error that says how to get them."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from keras_candle.errors import CandleError

# import name -> what to type
REMEDIES = {
    "horovod.tensorflow": "build it for your TensorFlow: pip install 'keras-candle[horovod]' "
    "&& candle build-horovod",
    "keras_tuner": "install it: pip install 'keras-candle[tune]'",
    "mpi4py.MPI": "install it: pip install mpi4py mpich",
    "scipy": "install it: pip install 'keras-candle[tune]'",
    "sklearn.datasets": "install it: pip install 'keras-candle[demo]'",
    "tensorflow": "install it: pip install 'keras-candle[cpu]' (or [gpu])",
}


def load(name: str, needed_for: str, error: type[CandleError] = CandleError) -> Any:
    """Import a module that may be missing.

    Args:
        name: the module, one of `REMEDIES`.
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
        raise error(
            f"{package} is needed for {needed_for} and cannot be loaded ({cause}); {REMEDIES[name]}"
        ) from cause
    return module
