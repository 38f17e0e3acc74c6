"""Replace `fit`, `evaluate` and similar methods of `keras.Model`, to run a scaled model's trainer.

A subclass may override them: it maps the data, adds callbacks, and calls `super().fit`. So they are
replaced on `keras.Model`, where such a call arrives, and not on the instance, where the override
would no longer be reached. A model that is not scaled runs Keras's own method.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

import keras

from keras_candle.training.rank_files import save_whole

TRAINED = ("evaluate", "fit", "predict", "train_on_batch")
SAVED = ("export", "save", "save_weights")


def call_trainers() -> None:
    """Make the methods of `keras.Model` call the trainer of a scaled model.

    A second call changes nothing, unless a program has replaced a method in between.
    """
    for name in TRAINED + SAVED:
        plain = getattr(keras.Model, name)
        if not hasattr(plain, "candle_calls_trainers"):
            setattr(keras.Model, name, _calling_trainer(name, plain))


def _calling_trainer(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        trainer = trainer_of(self)
        if trainer is None:
            return plain(self, *args, **kwargs)
        bound = MethodType(plain, self)
        if name in SAVED:
            return save_whole(bound, *args, **kwargs)
        return getattr(trainer, name)(bound, *args, **kwargs)

    method.candle_calls_trainers = True  # type: ignore[attr-defined]
    return method


def trainer_of(model: Any) -> Any:
    """Return the `Trainer` of a scaled model; None if the object is not one."""
    return getattr(model, "__dict__", {}).get("_candle_trainer")
