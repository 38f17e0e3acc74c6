"""Replace `fit`, `evaluate`, `save` and similar methods of `keras.Model` for scaled models.

A subclass may override them: it maps the data, adds callbacks, and calls `super().fit`. So they are
replaced on `keras.Model`, where such a call arrives, and not on the instance, where the override
would no longer be reached. A model that is not scaled runs Keras's own method, and root prints that
each rank trains it for itself. Saving is atomic: any rank may read a file while the root replaces
it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import keras

from keras_candle import engine as engines
from keras_candle.call_site import call_site
from keras_candle.engine import Engine
from keras_candle.launcher_messages import work

TRAINED = ("evaluate", "fit", "predict", "train_on_batch")
_LEARNING = ("fit", "train_on_batch")
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
        if name == "train_on_batch":
            work.begin(can_resume=False)
        if trainer is None:
            if name in _LEARNING:
                unscaled.record(self)
            return plain(self, *args, **kwargs)
        bound = MethodType(plain, self)
        if name in SAVED:
            return save_whole(bound, *args, **kwargs)
        return getattr(trainer, name)(bound, *args, **kwargs)

    method.candle_calls_trainers = True  # type: ignore[attr-defined]
    return method


class UnscaledModels:
    """Report on root, once for each line of the program, the models that it trains unscaled.

    Before the first model is scaled there may be no engine: until then the sentences wait.
    """

    def __init__(self) -> None:
        self._lines: set[str] = set()
        self._waiting: list[str] = []
        self._any_scaled = False

    def record(self, model: Any) -> None:
        """Report a model that is about to be trained."""
        line = call_site()
        if line not in self._lines:
            self._lines.add(line)
            self._waiting.append(model.name)
            if self._any_scaled:
                self.print_all(engines.current())

    def print_all(self, engine: Engine) -> None:
        """Print what waits, from now on at once: a model is scaled.

        Args:
            engine: connects the ranks; a rank that works alone has nothing to report.
        """
        self._any_scaled = True
        if engine.size > 1:
            for name in self._waiting:
                engine.print_on_root(
                    f"model {name!r} is not scaled: each of the {engine.size} ranks trains a copy "
                    "of its own on all of its data. Pass it to candle.scale(model) before fit, or "
                    "put @candle.scalable on the function that builds it."
                )
        self._waiting.clear()


unscaled = UnscaledModels()


def trainer_of(model: Any) -> Any:
    """Return the `Trainer` of a scaled model; None if the object is not one."""
    return getattr(model, "__dict__", {}).get("_candle_trainer")


_ONE_FILE = (".keras", ".h5")


def save_whole(save: Callable[..., Any], filepath: Any, *args: Any, **kwargs: Any) -> Any:
    """Call one of Keras's saving methods so that the file is never half written.

    It writes a single file to a temporary name beside it and renames it when complete: a process
    that reads the previous file keeps reading that.

    Args:
        save: `Model.save`, `save_weights` or `export` of a model.
        filepath: the destination; passed on unchanged where it is not a single local file.
        *args: further arguments.
        **kwargs: further arguments.

    Returns:
        The value that `save` returns.
    """
    path = Path(filepath) if isinstance(filepath, str | os.PathLike) else None
    overwrites = args[0] if args else kwargs.get("overwrite", True)
    one_file = path is not None and path.suffix in _ONE_FILE and "://" not in str(filepath)
    in_parts = kwargs.get("zipped") is False or kwargs.get("max_shard_size") is not None
    if path is None or not one_file or in_parts or not (overwrites or not path.exists()):
        return save(filepath, *args, **kwargs)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        result = save(partial, *args, **kwargs)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return result
