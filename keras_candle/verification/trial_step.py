"""Run a model's training step without effects: no noise, no update, the state restored."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_candle.keras_private.models import global_seed_generator, layers_of, seed_generators
from keras_candle.training.gradients import outermost_optimizers

_OPERATION = re.compile(r"^\{\{function_node .*?\}\} | \[Op:.*$")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


# Attributes of Keras's layers for the strength of dropout or noise; at 0 they do nothing.
_STRENGTHS = ("rate", "stddev", "dropout", "recurrent_dropout")


# Functions by which programs draw, and the argument names of two numbers whose mean they have.
_DRAWS = (
    ("keras", "normal", ("mean", "mean"), (0.0, 0.0)),
    ("keras", "truncated_normal", ("mean", "mean"), (0.0, 0.0)),
    ("keras", "uniform", ("minval", "maxval"), (0.0, 1.0)),
    ("tensorflow", "normal", ("mean", "mean"), (0.0, 0.0)),
    ("tensorflow", "truncated_normal", ("mean", "mean"), (0.0, 0.0)),
    ("tensorflow", "uniform", ("minval", "maxval"), (0.0, 1.0)),
)


@contextmanager
def mean_draws() -> Iterator[None]:
    """Replace normal and uniform numbers of floating dtype by their mean inside a `with` block.

    Covered are calls of `keras.random` and `tf.random` in programs, not those inside of Keras.
    """
    before = []
    for package, name, bounds, defaults in _DRAWS:
        module: Any = getattr(sys.modules.get(package), "random", None)
        if module is not None:
            plain = getattr(module, name)
            before.append((module, name, plain))
            setattr(module, name, _mean_of(plain, bounds, defaults))
    try:
        yield
    finally:
        for module, name, plain in before:
            setattr(module, name, plain)


def _mean_of(
    plain: Callable[..., Any], bounds: tuple[str, str], defaults: tuple[float, float]
) -> Callable[..., Any]:
    @functools.wraps(plain)
    def mean(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(plain).bind(*args, **kwargs).arguments
        dtype = keras.backend.standardize_dtype(given.get("dtype"))
        if "float" not in dtype:
            return plain(*args, **kwargs)
        ends = [given.get(each) for each in bounds]
        low, high = (
            default if end is None else end for end, default in zip(ends, defaults, strict=True)
        )
        return keras.ops.full(given["shape"], 0.5 * low + 0.5 * high, dtype=dtype)

    return mean


@contextmanager
def without_noise(model: Any) -> Iterator[None]:
    """Set dropout rates and the strength of noise to 0 inside a `with` block, with `mean_draws`.

    Only in layers with a seed generator: in any other layer a `rate` may have another meaning.

    Args:
        model: a Keras model that is not being traced.
    """
    before = [
        (layer, name, value)
        for layer in layers_of(model)
        if seed_generators(layer)
        for name, value in strengths(layer)
    ]
    for layer, name, _ in before:
        setattr(layer, name, 0.0)
    try:
        with mean_draws():
            yield
    finally:
        # So that a model saved by the program has its own rates.
        for layer, name, value in before:
            setattr(layer, name, value)


def strengths(layer: Any) -> list[tuple[str, float]]:
    """Return the attributes of a layer that give the strength of its dropout or noise, above 0."""
    found = [(name, getattr(layer, name, None)) for name in _STRENGTHS]
    return [(name, value) for name, value in found if isinstance(value, int | float) and value > 0]


@contextmanager
def intercept_gradients(keep: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """Pass the gradients of all optimizers to a function, instead of applying them.

    Args:
        keep: called with the optimizer, the gradients, and the variables or None.
    """
    optimizers = keras.optimizers
    kinds = [optimizers.Optimizer, optimizers.LossScaleOptimizer]
    kinds += [getattr(optimizers, "MultiOptimizer", optimizers.Optimizer)]
    owners = {next(each for each in kind.__mro__ if "apply" in vars(each)) for kind in kinds}
    before = {owner: vars(owner)["apply"] for owner in owners}

    def apply(optimizer: Any, grads: Any, trainable_variables: Any = None) -> None:
        keep(optimizer, grads, trainable_variables)

    for owner in owners:
        owner.apply = apply
    try:
        yield
    finally:
        for owner, plain in before.items():
            owner.apply = plain


def one_line(error: Exception) -> str:
    """Return an error's message on one line, without the context that Keras and TensorFlow add."""
    lines = [_COLOURS.sub("", line).strip() for line in str(error).splitlines()]
    texts = [line for line in lines if line and not line.startswith("Exception encountered when")]
    first = _OPERATION.sub("", texts[0]) if texts else ""
    return f"{type(error).__name__}: {first}"


class State:
    """A copy of a model's variables, taken when it is made.

    Args:
        model: a compiled and built Keras model.
    """

    def __init__(self, model: Any) -> None:
        variables = [*model.variables]
        variables += [each for metric in model.metrics for each in metric.variables]
        variables += [each for opt in outermost_optimizers(model) for each in opt.variables]
        variables += [each.state for each in _generators(model)]
        unique = {id(variable): variable for variable in variables}
        self._values = [
            (variable, np.copy(keras.ops.convert_to_numpy(variable)))
            for variable in unique.values()
        ]

    def restore(self) -> None:
        """Assign the saved values to the variables."""
        for variable, value in self._values:
            variable.assign(value)


def _generators(model: Any) -> list[Any]:
    """The random generators in layers, and Keras's global one."""
    found = [each for layer in layers_of(model) for each in seed_generators(layer)]
    common = global_seed_generator()
    return found if common is None else [*found, common]
