"""Every model is scaled as it is compiled."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from keras_candle import engine as engines
from keras_candle.auto.notices import notice
from keras_candle.auto.random_draws import draw_on_alike
from keras_candle.training.gradients import leaf_optimizers


def defining_class(kind: type, name: str) -> type:
    """The class among a class and its parents that has a method in its own body.

    A subclass that calls super() comes to that one.

    Example:
        >>> defining_class(bool, "to_bytes")
        <class 'int'>
    """
    return next(each for each in kind.__mro__ if name in vars(each))


def scale_as_compiled(keras: ModuleType) -> None:
    """Let `compile` scale the model, its own or one that a subclass has put in front of it."""
    # Where Keras itself looks when it asks whether a loaded model's compile is the usual one.
    owner: Any = defining_class(keras.Model, "compile")
    plain = owner.compile

    @functools.wraps(plain)
    def compile_scaled(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        if isinstance(self, keras.Model) and not is_scaled(self):
            _scale(self)

    owner.compile = compile_scaled


def is_scaled(model: Any) -> bool:
    """Whether keras_candle trains this model already."""
    return hasattr(model, "_candle_trainer")


def _scale(model: Any) -> None:
    from keras_candle.auto.hand_loops import remember
    from keras_candle.auto.keras_files import save_private_files_alone
    from keras_candle.decorator import scale

    scale(model)
    if not is_scaled(model):
        return
    trainer = model._candle_trainer
    remember(trainer)
    save_private_files_alone(model)
    for name in ("fit", "evaluate"):
        setattr(model, name, _with_draws_alike(getattr(model, name)))
    replica = trainer.replica
    optimizer = getattr(model, "optimizer", None)
    rates = ", ".join(type(leaf).__name__ for leaf in leaf_optimizers(optimizer)) or "no optimizer"
    notice(
        "models scaled",
        f"model {model.name!r} is scaled to {engines.current().size} ranks "
        f"({rates}, learning rate x {replica.scale.factor:g})",
    )


def _with_draws_alike(scaled: Any) -> Any:
    @functools.wraps(scaled)
    def method(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("_use_cached_eval_dataset"):  # fit's own evaluation goes on inside fit
            draw_on_alike()
        return scaled(*args, **kwargs)

    return method
