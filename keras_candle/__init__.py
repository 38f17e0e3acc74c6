"""Data-parallel training of Keras 3 models on N ranks.

Public names are imported on first use: `import keras_candle` itself imports neither Keras nor
TensorFlow nor MPI.
"""

from __future__ import annotations

import importlib
import os as _os
import sys as _sys
from typing import TYPE_CHECKING, Any

from keras_candle import when_imported as _when_imported
from keras_candle.cluster import launchers as _launchers

if TYPE_CHECKING:
    from keras_candle import engine as engine
    from keras_candle import search as search
    from keras_candle.callback import CandleCallback as CandleCallback
    from keras_candle.callback import Checkpoint as Checkpoint
    from keras_candle.data.shard import shard as shard
    from keras_candle.decorator import is_root as is_root
    from keras_candle.decorator import local_rank as local_rank
    from keras_candle.decorator import rank as rank
    from keras_candle.decorator import scalable as scalable
    from keras_candle.decorator import scale as scale
    from keras_candle.decorator import size as size
    from keras_candle.errors import CandleError as CandleError
    from keras_candle.errors import CheckpointError as CheckpointError
    from keras_candle.errors import DataError as DataError
    from keras_candle.errors import DivergenceError as DivergenceError
    from keras_candle.errors import EngineError as EngineError
    from keras_candle.errors import LaunchError as LaunchError
    from keras_candle.errors import SearchError as SearchError
    from keras_candle.search import CandleTuner as CandleTuner
    from keras_candle.search import HyperSpaceOracle as HyperSpaceOracle
    from keras_candle.staging import get_file as get_file
    from keras_candle.staging import stage as stage
    from keras_candle.trackers import Tracker as Tracker
    from keras_candle.training.reductions import (
        register_metric_reduction as register_metric_reduction,
    )
    from keras_candle.training.state_reductions import (
        register_state_reduction as register_state_reduction,
    )
    from keras_candle.training.step_context import gather_rows as gather_rows

__version__ = "0.1.0"

_ERRORS = (
    "CandleError",
    "CheckpointError",
    "DataError",
    "DivergenceError",
    "EngineError",
    "LaunchError",
    "SearchError",
)
# public name -> the module that defines it
_MODULES = {
    **dict.fromkeys(
        ("scalable", "scale", "rank", "size", "local_rank", "is_root"), "keras_candle.decorator"
    ),
    **dict.fromkeys(("CandleCallback", "Checkpoint"), "keras_candle.callback"),
    **dict.fromkeys(_ERRORS, "keras_candle.errors"),
    **dict.fromkeys(("CandleTuner", "HyperSpaceOracle"), "keras_candle.search"),
    "Tracker": "keras_candle.trackers",
    **dict.fromkeys(("get_file", "stage"), "keras_candle.staging"),
    "shard": "keras_candle.data.shard",
    "gather_rows": "keras_candle.training.step_context",
    "register_metric_reduction": "keras_candle.training.reductions",
    "register_state_reduction": "keras_candle.training.state_reductions",
}

__all__ = ["__version__", "engine", "search", *_MODULES]  # noqa: PLE0604 - the keys are strings


def __getattr__(name: str) -> Any:
    if name in ("engine", "search"):
        return importlib.import_module(f"keras_candle.{name}")
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'keras_candle' has no attribute {name!r}")


# Before Keras is imported. The package's own programs (-m) refuse for themselves, in one line.
if _sys.argv[:1] != ["-m"]:
    _launchers.refuse_lonely_task(_os.environ)
_when_imported.hasten_import("keras", "tensorflow")
_when_imported.wrap_fit()


def __dir__() -> list[str]:
    return sorted(__all__)
