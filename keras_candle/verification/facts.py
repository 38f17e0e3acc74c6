"""Collect facts from a training that explain differences between N ranks and one.

A layer draws at random if its seed generator has changed; it has state of its rank's rows if a
weight that no optimizer updates has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_candle.data.array_shard import ArrayShard
from keras_candle.data.fingerprint import fingerprint
from keras_candle.keras_private.data import (
    ArrayDataAdapter,
    DataAdapter,
    input_arrays,
    train_validation_split,
)
from keras_candle.keras_private.models import (
    get_keras_mask,
    layers_of,
    own_non_trainable_variables,
    seed_generators,
)
from keras_candle.keras_private.optimizers import optimized_variables
from keras_candle.training.batch_normalization import synchronized_variables
from keras_candle.training.gradients import leaf_optimizers, outermost_optimizers
from keras_candle.training.keras_methods import trainer_of
from keras_candle.verification.record import Fact
from keras_candle.verification.trial_step import strengths

# Name endings of the sums of squared gradients in Adam, RMSprop and Adagrad.
_SQUARES = ("_velocity", "_accumulator")
# A gradient this small, relative to the model's largest, is 0 but for float32 rounding.
_NOISE = 1e-6


def values_of(variables: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """Return values as NumPy can store them: 16-bit floats as float32, which is exact."""
    values = [keras.ops.convert_to_numpy(each) for each in variables]
    short = ("bfloat16", "float16")
    return [each.astype("float32") if str(each.dtype) in short else each for each in values]


@dataclass(frozen=True)
class DataFacts:
    """Facts about a fit's data.

    Attributes:
        fingerprints: a line for each array; empty where the data are not arrays.
        rows: the number of rows of the data ("") and of the validation data ("val_"); 0 where
            unknown.
        facts: how the data reach the ranks, where it affects the comparison.
    """

    fingerprints: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)


def describe_data(given: dict[str, Any]) -> DataFacts:
    """Return facts about the data that Keras's own `fit` gets.

    Args:
        given: its arguments. On N ranks x is the DataAdapter that divides the data.
    """
    x = given["x"]
    if isinstance(x, DataAdapter):
        if not type(x).__module__.startswith("keras_candle."):
            return DataFacts(facts=[Fact("own_part", "the program divides the data itself")])
        return DataFacts(x.fingerprint) if isinstance(x, ArrayShard) else DataFacts()
    held_out = given["validation_data"]
    data = (x, given["y"], given["sample_weight"])
    try:
        if given["validation_split"] and held_out is None:
            data, held_out = train_validation_split(
                data, validation_split=given["validation_split"]
            )
        adapter = ArrayDataAdapter(
            data[0],
            data[1],
            sample_weight=data[2],
            class_weight=given["class_weight"],
            batch_size=given["batch_size"],
            steps=given["steps_per_epoch"],
        )
        rows = {"": rows_of(data[0]), "val_": rows_of(held_out)}
        return DataFacts(fingerprint(input_arrays(adapter)), rows)
    except (AttributeError, KeyError, TypeError, ValueError):
        return DataFacts()  # not arrays: a tf.data.Dataset, a generator


def rows_of(data: Any) -> int:
    """Return the number of rows of arrays, 0 where unknown."""
    first = next(iter(keras.tree.flatten(data)), None)
    shape = getattr(first, "shape", None)
    return int(shape[0]) if shape is not None and len(shape) and shape[0] else 0


class FactWatcher:
    """Detects the variables of a model that change while it trains.

    Args:
        model: the model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._seeds: dict[int, Any] = {}
        self._state: dict[int, Any] = {}
        self._steps = 0

    def begin(self) -> None:
        """Remember the values at the start of a training."""
        generators = [each for _, each in _generators(self._model)]
        self._seeds = {id(each): keras.ops.convert_to_numpy(each.state) for each in generators}
        state = self._model.non_trainable_weights
        self._state = {id(each): keras.ops.convert_to_numpy(each) for each in state}
        self._steps = _updates(self._model)

    def steps(self) -> int:
        """Return how often the weights were updated since `begin`."""
        return _updates(self._model) - self._steps

    def facts(self) -> list[Fact]:
        """Return facts that explain a difference, after a training."""
        found = [
            ("random", self._random_layers(with_strength=True)),
            ("draw", self._random_layers(with_strength=False)),
            ("batch_normalization", self._layers_with_local_state(batch_normalization=True)),
            ("local_state", self._layers_with_local_state(batch_normalization=False)),
            ("mask", _masked_outputs(self._model)),
            ("compression", _compression(self._model)),
            ("reduced_precision", _reduced_precision(self._model)),
            ("train_step", _custom_steps(self._model)),
        ]
        return [Fact(kind, _listed(names)) for kind, names in found if names]

    def _random_layers(self, *, with_strength: bool) -> list[str]:
        return [
            _name(layer)
            for layer, generator in _generators(self._model)
            if _moved(generator.state, self._seeds.get(id(generator)))
            and bool(strengths(layer)) == with_strength
        ]

    def _layers_with_local_state(self, *, batch_normalization: bool) -> list[str]:
        same_on_all = synchronized_variables(self._model)
        kind = keras.layers.BatchNormalization
        return [
            _name(layer)
            for layer in layers_of(self._model)
            if isinstance(layer, kind) == batch_normalization
            and any(
                id(each) not in same_on_all
                and "float" in str(each.dtype)
                and _moved(each, self._state.get(id(each)))
                for each in own_non_trainable_variables(layer)
            )
        ]


def rounding_noise(model: Any) -> list[int]:
    """Return the positions of weights whose gradients were only rounding.

    A bias before batch normalisation, or that of an attention's keys, has no effect: its gradient
    is 0 but for rounding. Adam and similar optimizers divide by the gradient's size, and so turn it
    into steps of full length, which differ in each run and do no harm. The moving mean of the
    normalisation follows them.

    Args:
        model: a model that has been trained.
    """
    sizes: dict[int, float] = {}
    for leaf in (each for opt in outermost_optimizers(model) for each in leaf_optimizers(opt)):
        squares = [each for each in leaf.variables if each.path.endswith(_SQUARES)]
        trained = optimized_variables(leaf)
        if len(squares) == len(trained):
            for variable, square in zip(trained, squares, strict=True):
                largest = np.max(keras.ops.convert_to_numpy(square), initial=0.0)
                sizes[id(variable)] = float(np.sqrt(largest))
    limit = _NOISE * max(sizes.values(), default=0.0)
    weights = list(enumerate(model.weights))
    noise = [number for number, each in weights if 0 < sizes.get(id(each), 0.0) < limit]
    shapes = {tuple(model.weights[number].shape) for number in noise}
    means = [each for each in weights if each[1].path.endswith("/moving_mean")]
    return sorted(noise + [number for number, mean in means if tuple(mean.shape) in shapes])


def _moved(variable: Any, before: Any) -> bool:
    if before is None:
        return True
    return not np.array_equal(keras.ops.convert_to_numpy(variable), before, equal_nan=True)


def _updates(model: Any) -> int:
    return sum(int(each.iterations) for each in outermost_optimizers(model))


def _generators(model: Any) -> list[tuple[Any, Any]]:
    return [
        (layer, generator) for layer in layers_of(model) for generator in seed_generators(layer)
    ]


def _name(layer: Any) -> str:
    return f"{type(layer).__name__} {layer.name!r}"


def _listed(names: Sequence[str], most: int = 4) -> str:
    names = list(dict.fromkeys(names))
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _masked_outputs(model: Any) -> list[str]:
    """The outputs with a mask, of which Keras's loss counts the unmasked values only."""
    try:
        outputs = keras.tree.flatten(model.outputs)
    except (AttributeError, ValueError):  # a subclassed model has no graph with masks
        kinds = (keras.layers.Masking, keras.layers.Embedding)
        layers = [each for each in layers_of(model) if isinstance(each, kinds)]
        return [_name(each) for each in layers if getattr(each, "mask_zero", True)]
    masked = [get_keras_mask(each) is not None for each in outputs]
    return [f"output {number + 1}" for number, has_mask in enumerate(masked) if has_mask]


def _compression(model: Any) -> list[str]:
    trainer = trainer_of(model)
    asked = trainer and trainer.options.compression
    return [f"compression={asked!r}"] if asked else []


def _reduced_precision(model: Any) -> list[str]:
    layers = layers_of(model)
    return sorted({each.compute_dtype for each in layers} & {"float16", "bfloat16"})


def _custom_steps(model: Any) -> list[str]:
    kind = type(model)
    names = ("train_step", "compute_loss")
    return [
        f"{kind.__name__}.{name}"
        for name in names
        if getattr(kind, name) is not getattr(keras.Model, name)
    ]
