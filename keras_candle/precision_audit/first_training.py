"""Capture the model and the batches of a script's first training, instead of training it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

from keras_candle.lint.dry_run.journal import FactLog
from keras_candle.lint.dry_run.training import replace_method
from keras_candle.training.step_chain import chain_of

_MOST_BATCHES = 8


@dataclass(frozen=True)
class FirstTraining:
    """The model and the data of a script's first training.

    Attributes:
        model: a compiled model.
        batches: the arguments of its first steps.
        method: "fit" or "train_on_batch".
        line: the script's file and line that called it.
    """

    model: Any
    batches: list[Any]
    method: str
    line: tuple[str, int] | None


def at_first_training(
    keras_module: ModuleType, journal: FactLog, act: Callable[[FirstTraining], NoReturn]
) -> None:
    """Call `act` instead of the first step; for a process that exists for one audit.

    Args:
        keras_module: Keras, imported by the script.
        journal: knows the script's own lines.
        act: called with the training; it must not return.
    """
    taken = False

    def make(plain: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal taken
        if taken:
            plain(model, *args, **kwargs)
            return

        def take(iterator: Iterator[Any]) -> NoReturn:
            nonlocal taken
            taken = True
            lines = journal.lines()
            batches = list(itertools.islice(_batches(iterator), _MOST_BATCHES))
            # fit reads a tf.data iterator, train_on_batch has one batch.
            method = "fit" if hasattr(iterator, "element_spec") else "train_on_batch"
            chain_of(model).take()
            act(FirstTraining(model, batches, method, lines[0] if lines else None))

        chain_of(model).restore(take)

    replace_method(keras_module.Model, "make_train_function", make)


def _batches(iterator: Iterator[Any]) -> Iterator[Any]:
    """Each batch as the argument of a step: tensors, or None."""
    import keras
    import numpy as np
    import tensorflow as tf

    def plain(value: Any) -> Any:
        if isinstance(value, tf.experimental.Optional):
            return None
        return tf.convert_to_tensor(value) if isinstance(value, np.ndarray) else value

    for batch in iterator:
        yield keras.tree.map_structure(plain, batch)
