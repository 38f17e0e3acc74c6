"""Reduce over the ranks the weights that no optimizer updates, such as moving means.

Each rank computes them from its own rows. A moving mean is averaged. Any other state of a layer (a
queue of features, the largest value seen, a count) must be registered, unless it is the same on
all ranks anyway, as the weights of a momentum encoder are.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError
from keras_candle.keras_private.models import layers_of
from keras_candle.training.reductions import check_reductions, combine_arrays, reduce_arrays
from keras_candle.training.shared_state import sequence_state

# layer class -> {variable name: reduction}
_REGISTERED: dict[type, dict[str, str]] = {
    keras.layers.BatchNormalization: {"moving_mean": "mean", "moving_variance": "mean"},
    # Computed from the kernel alone; ranks of different hardware round differently.
    keras.layers.SpectralNormalization: {"vector_u": "root"},
}


def register_state_reduction(layer: type, reductions: Mapping[str, str]) -> None:
    """Register how weights that no optimizer updates combine over the ranks.

    A layer or model may keep state in a weight with `trainable=False` and assign it from the rows
    that it sees. The ranks see different rows, so at the end of each epoch the ranks' values have
    to become one. Those of `keras.layers.BatchNormalization` are averaged; others must be the same
    on all ranks or be registered.

    Args:
        layer: a subclass of `keras.layers.Layer`, or of `keras.Model` for a weight that a model
            itself adds; subclasses inherit the registration.
        reductions: from the names of weights, as in `add_weight(name=...)`, to "mean", "min",
            "max", "sum" (the ranks' increments since the last reduction are added up) or "root"
            (the value of rank 0).

    Raises:
        CandleError: if `layer` is not a layer class, or a reduction is unknown.

    Example:
        >>> class Range(keras.layers.Layer):
        ...     def build(self, _):
        ...         self.top = self.add_weight(shape=(), trainable=False, name="top")
        ...
        ...     def call(self, x):
        ...         self.top.assign(keras.ops.maximum(self.top, keras.ops.max(x)))
        ...         return x / self.top
        >>> register_state_reduction(Range, {"top": "max"})
    """
    if not (isinstance(layer, type) and issubclass(layer, keras.layers.Layer)):
        raise CandleError(
            f"register_state_reduction got {layer!r}, expected a subclass of keras.layers.Layer "
            "or keras.Model."
        )
    _REGISTERED[layer] = check_reductions("register_state_reduction", reductions)


def registered_reductions(model: Any) -> dict[int, str]:
    """Return the reduction of each registered weight of a model, by the variable's id."""
    found = {}
    for layer in layers_of(model):
        known: dict[str, str] = {}
        for kind in reversed(type(layer).mro()):
            known |= _REGISTERED.get(kind, {})
        if known:
            own = [each for each in layer.non_trainable_weights if each.name in known]
            found.update({id(each): known[each.name] for each in own})
    return found


def state_of_rows(model: Any) -> set[int]:
    """Return the ids of registered weights that each rank computes from its own rows."""
    found = registered_reductions(model)
    return {variable for variable, reduction in found.items() if reduction != "root"}


def begin_sums(model: Any) -> None:
    """Remember the values, equal on all ranks, to which each rank adds for its own rows."""
    for variable in _sums(model):
        variable.candle_base = _value(variable)


def sum_bases(model: Any) -> list[NDArray[Any]]:
    """Return the values to which the ranks have added since, for weights with reduction "sum"."""
    return [sum_base(each) for each in _sums(model)]


def sum_base(variable: Any) -> NDArray[Any]:
    """Return the value to which each rank has added: the present one before any reduction."""
    return np.asarray(getattr(variable, "candle_base", _value(variable)), np.float64)


def set_sum_bases(model: Any, bases: Sequence[Any]) -> None:
    """Restore the values that `sum_bases` returned."""
    for variable, base in zip(_sums(model), bases, strict=True):
        variable.candle_base = np.asarray(base)


def reduce_state(model: Any, engine: Engine, averaged: Sequence[Any] = ()) -> list[Any]:
    """Make the weights that no optimizer updates equal on all ranks.

    Args:
        model: the model.
        engine: connects the ranks; every rank must call this.
        averaged: more variables, to be averaged.

    Returns:
        The weights that differed by rank and are not registered; they have the root's values now.
    """
    known = registered_reductions(model) | {id(each): "mean" for each in averaged}
    own_state = sequence_state(model)
    variables = [each for each in model.non_trainable_weights if id(each) not in own_state]
    variables += averaged
    values = [_value(each) for each in variables]
    differs = _differs(values, engine)
    # For "sum" also where the ranks are equal: they may have added the same.
    places = [i for i, each in enumerate(variables) if differs[i] or known.get(id(each)) == "sum"]
    reductions = [known.get(id(variables[i]), "root") for i in places]
    bases = [
        sum_base(variables[i]) if kind == "sum" else 0
        for i, kind in zip(places, reductions, strict=True)
    ]
    own = [values[i].astype(np.float64) - base for i, base in zip(places, bases, strict=True)]
    whole = reduce_arrays(own, reductions, engine)
    for i, base, value in zip(places, bases, whole, strict=True):
        _assign(variables[i], base + value)
    begin_sums(model)
    return [variables[i] for i in places if id(variables[i]) not in known]


def unregistered_state(model: Any, engine: Engine) -> list[Any]:
    """Return the weights that differ by rank and are not registered; every rank must call this."""
    known = {*registered_reductions(model), *sequence_state(model)}
    variables = [each for each in model.non_trainable_weights if id(each) not in known]
    differs = _differs([_value(each) for each in variables], engine)
    return [each for each, differ in zip(variables, differs, strict=True) if differ]


def combine_state(of_ranks: Sequence[Any], reduction: str, base: Any) -> NDArray[Any]:
    """Combine the values of one weight on several ranks.

    Args:
        of_ranks: the values by rank.
        reduction: as in `register_state_reduction`.
        base: for "sum", the value to which each rank has added.

    Example:
        >>> combine_state([np.array(5.0), np.array(6.0)], "sum", np.array(4.0))
        array(7.)
    """
    if reduction != "sum":
        return combine_arrays(of_ranks, reduction)
    return np.asarray(base + combine_arrays([each - base for each in of_ranks], "sum"))


def remedy(model: Any, variable: Any) -> str:
    """Return a hint for a weight that differs by rank and is not registered."""
    owners = [each for each in layers_of(model) if _owns(each, variable)]
    owner = type(owners[-1]).__name__ if owners else type(model).__name__
    return (
        "No optimizer updates it, and each rank computes it from its own rows. Compute it from "
        "the rows of all ranks, candle.gather_rows(tensor), or register how the ranks' values "
        f"combine: candle.register_state_reduction({owner}, "
        f"{{{variable.name!r}: 'mean'}}), with 'mean', 'min', 'max', 'sum' or 'root'"
    )


def _owns(layer: Any, variable: Any) -> bool:
    return any(each is variable for each in layer.non_trainable_weights)


def _differs(values: Sequence[NDArray[Any]], engine: Engine) -> NDArray[np.bool_]:
    return engine.differ([zlib.crc32(each.tobytes()) for each in values])


def _sums(model: Any) -> list[Any]:
    known = registered_reductions(model)
    return [each for each in model.non_trainable_weights if known.get(id(each)) == "sum"]


def _assign(variable: Any, value: NDArray[Any]) -> None:
    variable.assign(value.astype(keras.backend.standardize_dtype(variable.dtype)))


def _value(variable: Any) -> NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(variable))
