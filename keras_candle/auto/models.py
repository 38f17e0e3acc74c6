"""Scale every model when it is compiled, and print on root what --auto changes.

Imports of Keras are in functions: TensorFlow can be imported, and this module with it, while Keras
still is.
"""

from __future__ import annotations

import atexit
import functools
import random
from collections import Counter
from types import ModuleType
from typing import Any

from keras_candle import engine as engines

_times: Counter[str] = Counter()


def notice(kind: str, first: str) -> None:
    """Count a change, and print a sentence for the first of its kind.

    Args:
        kind: the kind of change, in the plural.
        first: the sentence for the first one.
    """
    if not _times:
        atexit.register(_print_totals)
    _times[kind] += 1
    if _times[kind] == 1:
        engines.current().print_on_root(f"--auto: {first}")


def _print_totals() -> None:
    several = [f"{times} {kind}" for kind, times in _times.items() if times > 1]
    if several:
        engines.current().print_on_root(f"--auto: in all {', '.join(several)}")


def defining_class(kind: type, name: str) -> type:
    """Return the first class in a class's MRO that defines a method in its own body.

    A subclass that calls super() reaches that one.

    Example:
        >>> defining_class(bool, "to_bytes")
        <class 'int'>
    """
    return next(each for each in kind.__mro__ if name in vars(each))


def scale_on_compile(keras: ModuleType) -> None:
    """Patch `compile` to scale the model, also where a subclass overrides it."""
    # Keras checks this class to see whether a loaded model overrides compile.
    owner: Any = defining_class(keras.Model, "compile")
    plain = owner.compile

    @functools.wraps(plain)
    def compile_scaled(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        if isinstance(self, keras.Model) and not is_scaled(self):
            _scale(self)

    owner.compile = compile_scaled


def is_scaled(model: Any) -> bool:
    """Return whether this model is scaled already."""
    from keras_candle.training.keras_methods import trainer_of

    return trainer_of(model) is not None


def _scale(model: Any) -> None:
    from keras_candle.auto.custom_loops import register_trainer
    from keras_candle.auto.saving import synchronize_saves
    from keras_candle.decorator import scale
    from keras_candle.training.gradients import leaf_optimizers
    from keras_candle.training.keras_methods import trainer_of

    scale(model)
    if not is_scaled(model):
        return
    trainer = trainer_of(model)
    register_trainer(trainer)
    synchronize_saves(model)
    for name in ("fit", "evaluate"):
        setattr(model, name, _with_synchronized_random_state(getattr(model, name)))
    replica = trainer.replica
    optimizer = getattr(model, "optimizer", None)
    rates = ", ".join(type(leaf).__name__ for leaf in leaf_optimizers(optimizer)) or "no optimizer"
    notice(
        "models scaled",
        f"model {model.name!r} is scaled to {engines.current().size} ranks "
        f"({rates}, learning rate x {replica.scale.factor:g})",
    )


def _with_synchronized_random_state(scaled: Any) -> Any:
    from keras_candle.keras_private.models import is_evaluation_of_fit

    @functools.wraps(scaled)
    def method(*args: Any, **kwargs: Any) -> Any:
        if not is_evaluation_of_fit(kwargs):  # fit's own evaluation is part of fit
            _synchronize_random_state()
        return scaled(*args, **kwargs)

    return method


def _synchronize_random_state() -> None:
    """Broadcast the root's state of Python's and NumPy's random generators.

    A generator that Keras reads ahead may have drawn more numbers on one rank than on another.
    """
    import numpy as np

    python, numpy = engines.current().broadcast((random.getstate(), np.random.get_state()))
    random.setstate(python)
    np.random.set_state(numpy)
