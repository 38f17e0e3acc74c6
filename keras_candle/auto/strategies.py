"""tf.distribute strategies, which would divide the work a second time."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NoReturn

from keras_candle.auto.notices import notice
from keras_candle.errors import EngineError

# Where one rank has one device, these mean what TensorFlow's default strategy means.
_TAKEN_OUT = (
    "MirroredStrategy",
    "MultiWorkerMirroredStrategy",
    "OneDeviceStrategy",
    "experimental.CentralStorageStrategy",
    "experimental.MultiWorkerMirroredStrategy",
)
_REFUSED = (
    "ParameterServerStrategy",
    "TPUStrategy",
    "experimental.ParameterServerStrategy",
    "experimental.TPUStrategy",
)


def take_strategies_out(tensorflow: ModuleType) -> None:
    """Let the strategies that mirror variables be TensorFlow's default one, and refuse the others.

    The default strategy has one replica; its scope() does nothing, its run() calls, its datasets
    are the plain ones.
    """
    for kind in _strategies(tensorflow, _TAKEN_OUT):
        kind.__new__ = _default_strategy
    for kind in _strategies(tensorflow, _REFUSED):
        kind.__new__ = _refuse


def _strategies(tensorflow: ModuleType, names: tuple[str, ...]) -> list[Any]:
    found = []
    for name in names:
        home: Any = tensorflow.distribute
        *inner, last = name.split(".")
        for each in inner:
            home = getattr(home, each, None)
        found.append(getattr(home, last, None))
    return list({id(kind): kind for kind in found if kind is not None}.values())


def _default_strategy(kind: Any, *_: Any, **__: Any) -> Any:
    import tensorflow as tf

    notice(
        "tf.distribute strategies taken out",
        f"tf.distribute.{kind.__name__} is taken out of the way: each rank is one replica",
    )
    # Not an instance of `kind`, so Python does not call its __init__.
    return tf.distribute.get_strategy()


def _refuse(kind: Any, *_: Any, **__: Any) -> NoReturn:
    raise EngineError(
        f"The script makes a tf.distribute {kind.__name__}, which --auto cannot take out of the "
        "way: its workers are no replicas of the script. Use MirroredStrategy or no strategy, or "
        "run the script without --auto."
    )
