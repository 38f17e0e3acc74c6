"""The state that the ranks share: weights, optimizer variables, dropout seeds."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.errors import DivergenceError
from keras_candle.keras_private import models
from keras_candle.keras_private.optimizers import optimized_variables
from keras_candle.training.gradients import leaf_optimizers
from keras_candle.training.stateful_layers import sequence_state

# Odd, so that it gives each of 2**32 ranks another seed (the fraction of the golden ratio).
_SEED_STRIDE = 0x9E3779B1


def shared_variables(model: Any, optimizers: Sequence[Any]) -> list[Any]:
    """What all ranks must hold alike: weights and optimizer variables, not the seeds."""
    variables = [*model.weights, *(each for opt in optimizers for each in opt.variables)]
    return list({id(variable): variable for variable in variables}.values())


def compared_variables(model: Any, optimizers: Sequence[Any]) -> list[Any]:
    """The same without whole numbers that no optimizer updates, such as rows that a layer counts.

    Each rank has its own, and there is no mean of them. So it has its own sequences' state.
    """
    own = {id(each) for each in model.non_trainable_weights if not is_float(each)}
    own |= sequence_state(model)
    return [each for each in shared_variables(model, optimizers) if id(each) not in own]


def check_same_model(model: Any, optimizers: Sequence[Any], engine: Engine) -> None:
    """Refuse to train when the ranks' models or optimizers differ.

    Names may differ: a rank that has built other layers before counts its names from there.

    Raises:
        DivergenceError: on every rank, naming the first difference.
    """
    layers = [type(layer).__name__ for layer in models.layers_of(model)]
    weights = [f"{weight.name} {weight.dtype} {tuple(weight.shape)}" for weight in model.weights]
    settings = [
        {key: value for key, value in leaf.get_config().items() if key != "name"}
        for optimizer in optimizers
        for leaf in leaf_optimizers(optimizer)
    ]
    kinds = [type(optimizer).__name__ for optimizer in optimizers]
    facts = [
        ("number of layers", len(layers)),
        *((f"layer {number}", layer) for number, layer in enumerate(layers)),
        ("number of weights", len(weights)),
        *((f"weight {number}", weight) for number, weight in enumerate(weights)),
        ("optimizers", kinds),
        ("optimizer settings", settings),
    ]
    # An object's address is another one on each rank.
    told = [(what, re.sub(r" at 0x[0-9a-f]+", "", repr(value))) for what, value in facts]
    checksums = engine.gather_objects(zlib.crc32(repr(told).encode()))
    if len(set(checksums)) == 1:
        return
    all_facts = engine.gather_objects(told)
    for row in zip(*all_facts, strict=False):
        if len({repr(fact) for fact in row}) > 1:
            listed = "\n".join(
                f"  rank {rank}: {what} is {value}" for rank, (what, value) in enumerate(row)
            )
            raise DivergenceError(
                f"The ranks built different models:\n{listed}\n"
                "Build the same model on every rank, whatever the rank is."
            )


def build_optimizers(model: Any, optimizers: Sequence[Any], engine: Engine) -> None:
    """Make the variables of an optimizer on all ranks when one rank has made them.

    A callback that restores a backup on the root makes them there.
    """
    places = {id(variable): place for place, variable in enumerate(model.trainable_variables)}
    own = [
        [places[id(each)] for each in optimized_variables(optimizer) if id(each) in places]
        if optimizer.built
        else None
        for optimizer in optimizers
    ]
    for optimizer, everyones in zip(
        optimizers, zip(*engine.gather_objects(own), strict=False), strict=False
    ):
        built = [each for each in everyones if each is not None]
        if built and not optimizer.built:
            optimizer.build([model.trainable_variables[place] for place in built[0]])


def broadcast_state(model: Any, optimizers: Sequence[Any], engine: Engine) -> None:
    """Give every rank the root's state, and seeds of its own for what it draws at random.

    Args:
        model: a built model.
        optimizers: its outermost optimizers; one that is not built yet has nothing to give.
        engine: connects the ranks.
    """
    own = sequence_state(model)
    variables = [each for each in shared_variables(model, optimizers) if id(each) not in own]
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    everyone = engine.gather_objects([zlib.crc32(each.tobytes()) for each in values])
    for variable, value, checksums in zip(
        variables, values, zip(*everyone, strict=True), strict=True
    ):
        if len(set(checksums)) > 1:  # in a second `fit` the ranks hold the same already
            variable.assign(engine.broadcast(value))
    for generator in seed_generators(model):
        generator.state.assign(engine.broadcast(keras.ops.convert_to_numpy(generator.state)))
    fold_rank(model, engine.rank)


def fold_rank(model: Any, rank: int) -> None:
    """Give a rank that holds the root's seeds some of its own."""
    for generator in seed_generators(model):
        state = keras.ops.convert_to_numpy(generator.state).copy()
        state[0] = (int(state[0]) + rank * _SEED_STRIDE) % 2**32
        generator.state.assign(state)


def seed_generators(model: Any) -> list[Any]:
    """Those of all layers, in their order."""
    found = {
        id(generator): generator
        for layer in models.layers_of(model)
        for generator in models.seed_generators(layer)
    }
    return list(found.values())


def is_float(variable: Any) -> bool:
    return "float" in keras.backend.standardize_dtype(variable.dtype)
