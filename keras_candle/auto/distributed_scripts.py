"""Scripts that divide or compile their work: tf.distribute strategies, XLA and Horovod.

TensorFlow may be imported, and this module used, while Keras is still being imported.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any, NoReturn

from keras_candle.auto.models import notice
from keras_candle.distribution_apis import (
    HOROVOD_MODULES,
    REFUSED_STRATEGIES,
    REPLACED_STRATEGIES,
)
from keras_candle.errors import EngineError
from keras_candle.when_imported import when_imported


def replace_strategies(tensorflow: ModuleType) -> None:
    """Replace strategies that mirror variables by TensorFlow's default one, and refuse the rest.

    The default strategy has one replica; its scope() does nothing, its run() calls the function,
    its datasets are the plain ones.
    """
    for kind in _strategies(tensorflow, REPLACED_STRATEGIES):
        kind.__new__ = _default_strategy
    for kind in _strategies(tensorflow, REFUSED_STRATEGIES):
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
        "tf.distribute strategies replaced",
        f"tf.distribute.{kind.__name__} is replaced by the default strategy: each rank is one "
        "replica",
    )
    # Not an instance of `kind`, so Python does not call its __init__.
    return tf.distribute.get_strategy()


def _refuse(kind: Any, *_: Any, **__: Any) -> NoReturn:
    raise EngineError(
        f"The script makes a tf.distribute {kind.__name__}, which --auto cannot replace: "
        "its workers are not replicas of the script. Use MirroredStrategy or no strategy, or run "
        "the script without --auto."
    )


def refuse_horovod_lines() -> None:
    """Make the script's own `hvd.init()` raise; importing Horovod alone is allowed."""
    for name in HOROVOD_MODULES:
        when_imported(name, _guard)


def _guard(horovod: ModuleType) -> None:
    plain: Any = getattr(horovod, "init", None)
    if plain is None or hasattr(plain, "candle_plain"):
        return

    @functools.wraps(plain)
    def init(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        # Our own engine may be Horovod.
        if not caller.startswith(("keras_candle.", "horovod.")):
            raise EngineError(
                "The script calls hvd.init(): it is written for Horovod and divides its data and "
                "learning rate by itself, so --auto would do it a second time. Run it without "
                "--auto, or remove its Horovod lines."
            )
        return plain(*args, **kwargs)

    init.candle_plain = plain  # type: ignore[attr-defined]
    horovod.init = init  # type: ignore[attr-defined]


def disable_xla(tensorflow: ModuleType) -> None:
    """Ignore `jit_compile=True` of the script's tf.functions: XLA has no collectives."""
    plain = tensorflow.function

    @functools.wraps(plain)
    def function(func: Any = None, *args: Any, jit_compile: Any = None, **kwargs: Any) -> Any:
        if not jit_compile:
            return plain(func, *args, jit_compile=jit_compile, **kwargs)
        if func is None:
            return functools.partial(function, *args, jit_compile=True, **kwargs)
        # Keras compiles its own steps where it can, and knows where it cannot.
        if not str(getattr(func, "__module__", "")).startswith(
            ("keras.", "keras_candle.", "tensorflow.")
        ):
            jit_compile = None
            notice(
                "tf.functions without XLA",
                f"tf.function {getattr(func, '__name__', func)!s} runs without XLA, which has no "
                "collectives",
            )
        return plain(func, *args, jit_compile=jit_compile, **kwargs)

    tensorflow.function = function  # type: ignore[attr-defined]
