"""The state that all ranks share: weights, optimizer variables, dropout seeds.

The state of a stateful layer is a rank's own: row i of a batch continues where row i of the
previous batch ended.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError, DivergenceError
from keras_candle.keras_private import models
from keras_candle.keras_private.models import layers_of
from keras_candle.keras_private.optimizers import optimized_variables
from keras_candle.training.gradients import leaf_optimizers

# Odd, so that each of 2**32 ranks gets a different seed (the fraction of the golden ratio).
_SEED_STRIDE = 0x9E3779B1


def shared_variables(model: Any, optimizers: Sequence[Any]) -> list[Any]:
    """Return the variables that must be equal on all ranks: weights and optimizer variables."""
    variables = [*model.weights, *(each for opt in optimizers for each in opt.variables)]
    return list({id(variable): variable for variable in variables}.values())


def compared_variables(model: Any, optimizers: Sequence[Any]) -> list[Any]:
    """Return the shared variables that the divergence guard compares.

    Not among them: integers that no optimizer updates, such as a layer's count of rows, and the
    state of a rank's own sequences. Each rank has its own values of these, and they have no mean.
    """
    own = {id(each) for each in model.non_trainable_weights if not is_float(each)}
    own |= sequence_state(model)
    return [each for each in shared_variables(model, optimizers) if id(each) not in own]


def check_same_model(model: Any, optimizers: Sequence[Any], engine: Engine) -> None:
    """Refuse to train when the ranks' models or optimizers differ.

    Names may differ: a rank that has built more layers before has higher numbers in its names.

    Raises:
        DivergenceError: on every rank, naming the first difference.
    """
    layers = [type(layer).__name__ for layer in models.layers_of(model)]
    weights = [f"{weight.name} {weight.dtype} {tuple(weight.shape)}" for weight in model.weights]
    settings = [
        _settings_of(leaf) for optimizer in optimizers for leaf in leaf_optimizers(optimizer)
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
    # An object's address differs on each rank.
    own = [(what, re.sub(r" at 0x[0-9a-f]+", "", repr(value))) for what, value in facts]
    if not engine.differ([zlib.crc32(repr(own).encode())]).any():
        return
    all_facts = engine.gather_objects(own)
    for row in zip(*all_facts, strict=False):
        if len({repr(fact) for fact in row}) > 1:
            listed = "\n".join(
                f"  rank {rank}: {what} is {value}" for rank, (what, value) in enumerate(row)
            )
            raise DivergenceError(
                f"The ranks built different models:\n{listed}\nBuild the same model on every rank."
            )


def _settings_of(optimizer: Any) -> dict[str, Any]:
    try:
        config = optimizer.get_config()
    except Exception:  # a schedule need not have a get_config, and trains nevertheless
        return {"class": type(optimizer).__name__}
    return {key: value for key, value in config.items() if key != "name"}


def build_optimizers(model: Any, optimizers: Sequence[Any], engine: Engine) -> None:
    """Build an optimizer on all ranks when it is built on one.

    A callback that restores a backup on the root builds it there.
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
    """Broadcast the root's state to every rank, and give each rank its own random seeds.

    Args:
        model: a built model.
        optimizers: its outermost optimizers; one that is not built yet has no state.
        engine: connects the ranks.
    """
    own = sequence_state(model)
    variables = [each for each in shared_variables(model, optimizers) if id(each) not in own]
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    differs = engine.differ([zlib.crc32(each.tobytes()) for each in values])
    for variable, value, is_unequal in zip(variables, values, differs, strict=True):
        if is_unequal:  # in a second `fit` the ranks are equal already
            variable.assign(engine.broadcast(value))
    for generator in seed_generators(model):
        generator.state.assign(engine.broadcast(keras.ops.convert_to_numpy(generator.state)))
    fold_rank(model, engine.rank)


def fold_rank(model: Any, rank: int) -> None:
    """Derive a rank's own seeds from the root's, in place."""
    for generator in seed_generators(model):
        state = keras.ops.convert_to_numpy(generator.state).copy()
        state[0] = (int(state[0]) + rank * _SEED_STRIDE) % 2**32
        generator.state.assign(state)


def seed_generators(model: Any) -> list[Any]:
    """Return the seed generators of all layers, in their order."""
    found = {
        id(generator): generator
        for layer in models.layers_of(model)
        for generator in models.seed_generators(layer)
    }
    return list(found.values())


def is_float(variable: Any) -> bool:
    return "float" in keras.backend.standardize_dtype(variable.dtype)


def stateful_layers(model: Any) -> list[Any]:
    """Return the stateful layers of a model, however deeply nested."""
    return [each for each in layers_of(model) if getattr(each, "stateful", False) is True]


def sequence_state(model: Any) -> set[int]:
    """Return the ids of the weights that hold the final state of a rank's last batch."""
    return {id(each) for layer in stateful_layers(model) for each in layer.non_trainable_weights}


def check_stateless(model: Any, size: int) -> None:
    """Refuse a stateful layer where the ranks divide the batches.

    Raises:
        CandleError: naming the layer and the ways to train it.
    """
    for layer in stateful_layers(model):
        raise CandleError(
            f"Layer {layer.name!r} ({type(layer).__name__}) is stateful: row i of a batch "
            f"continues where row i of the previous batch ended, and {size} ranks that divide the "
            "batches break these sequences. Give each rank whole sequences of its own with "
            "candle.scalable(shard=False), in batches of the model's batch size; or train with "
            "stateful=False; or on one rank."
        )
