"""Lay out and restore a model's state: what all ranks share, and each rank's own part.

Shared are weights, optimizer variables and assets, which root reads. A rank's own are seeds,
metrics, and the moving statistics that differ within an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints import keras_state
from keras_candle.checkpoints.layout import Layout, layout_of, layout_of_variables
from keras_candle.checkpoints.manifest import Tensor, digest, inside, read
from keras_candle.checkpoints.writing import ASSETS, first_difference, read_tensor
from keras_candle.engine.base import Engine
from keras_candle.errors import CheckpointError
from keras_candle.keras_private.optimizers import optimized_variables
from keras_candle.resume.object_state import Capture
from keras_candle.resume.run_session import RunSession
from keras_candle.training.gradients import (
    half_accumulated,
    leaf_optimizers,
    outermost_optimizers,
    wrapped_optimizers,
)
from keras_candle.training.metrics import metric_variables
from keras_candle.training.reductions import combine_arrays, reductions_of
from keras_candle.training.shared_state import (
    fold_rank,
    is_float,
    seed_generators,
    shared_variables,
)
from keras_candle.training.state_reductions import (
    begin_sums,
    combine_state,
    registered_reductions,
    set_sum_bases,
    sum_base,
    sum_bases,
)


def layouts_of(model: Any) -> tuple[Layout, Layout | None]:
    """Return the layouts of Keras's weights file and of the variables that it lacks.

    Keras saves LoRA's merged kernel, from which neither the kernel nor the adapters can be
    recovered. It also lacks the variables of a layer that saves none of them.
    """
    optimizers = outermost_optimizers(model)
    weights = layout_of(model, [each for one in optimizers for each in _with_wrapped(one)])
    held = {id(place.variable) for place in weights.places}
    left = [each for each in shared_variables(model, optimizers) if id(each) not in held]
    return weights, layout_of_variables(left) if left else None


def built_optimizers(model: Any) -> list[dict[str, Any]]:
    """Describe each optimizer of a model: its class and the weights for which it was built.

    Weights are positions in `model.weights`, -1 for a variable that is not the model's; None for
    an optimizer that is not built.
    """
    places = {id(variable): place for place, variable in enumerate(model.weights)}
    return [
        {
            "kind": type(optimizer).__name__,
            "built": [places.get(id(each), -1) for each in _variables_of(optimizer)]
            if optimizer.built
            else None,
        }
        for optimizer in outermost_optimizers(model)
    ]


def build_optimizers(model: Any, recorded: Sequence[Mapping[str, Any]], folder: str) -> None:
    """Build those of a model's optimizers that were built at a checkpoint, for the same weights.

    Args:
        model: the model, built.
        recorded: value of `built_optimizers` at the checkpoint.
        folder: the checkpoint, for messages.

    Raises:
        CheckpointError: when the optimizers or the variables that they are built for differ.
    """
    optimizers = outermost_optimizers(model)
    kinds = [type(each).__name__ for each in optimizers]
    expected = [each["kind"] for each in recorded]
    if kinds != expected:
        raise CheckpointError(
            f"Cannot resume {folder}: it has the optimizers {expected}, the model has {kinds}. "
            "Compile the model with the checkpoint's optimizers or start a new run directory."
        )
    weights = model.weights
    for number, (optimizer, record) in enumerate(zip(optimizers, recorded, strict=True)):
        places = record["built"]
        if places is None:
            continue
        known = all(0 <= place < len(weights) for place in places)
        if known and not optimizer.built:
            optimizer.build([weights[place] for place in places])
        if not optimizer.built or built_optimizers(model)[number]["built"] != list(places):
            raise CheckpointError(
                f"Cannot resume {folder}: there optimizer {number + 1} ({record['kind']}) is built "
                "for other variables, or for some that are not the model's. Make them attributes "
                "of the model, or build the optimizer so before fit."
            )


def load_model_state(model: Any, run: RunSession, step: int) -> None:
    """Restore a checkpoint's weights, optimizer variables and assets on every rank.

    Raises:
        CheckpointError: when the model differs from the checkpoint's, with the first difference.
    """
    folder = run.folder.path_of(step)
    weights, rest = layouts_of(model)
    places = [*weights.places, *(rest.places if rest else ())]
    variables = {place.name: place.variable for place in places if place.variable is not None}
    tensors: list[Tensor] = run.on_root(lambda: _tensors_for(folder, weights, rest))
    by_hand: dict[str, dict[str, Any]] = {}
    values = _broadcast(tensors, folder, run)
    exact = {}
    for tensor, value in zip(tensors, values, strict=True):
        if tensor.name not in variables:
            path, _, key = tensor.name.rpartition("vars/")
            by_hand.setdefault(path.rstrip("/"), {})[key] = value
        elif tensor.name.startswith(_REST):
            exact[tensor.name] = value
        else:
            variables[tensor.name].assign(value)
    _load_by_keras(model, weights, by_hand)
    _load_assets(model, folder, run)
    for name, value in exact.items():
        variables[name].assign(value)


_REST = "variables/"


def _tensors_for(folder: Path, weights: Layout, rest: Layout | None) -> list[Tensor]:
    """Return a checkpoint's tensors, when the model takes all of them.

    Raises:
        CheckpointError: with the first difference.
    """
    found = read(folder).tensors
    by_hand = {f"{path}/vars/".lstrip("/") for path in _paths_by_hand(weights)}
    places = [*weights.places, *(rest.places if rest else ())]
    fixed = [place for place in places if place.variable is not None]
    names = {place.name for place in fixed}
    free = [
        each
        for each in found
        if each.name not in names and each.name.rpartition("vars/")[0] + "vars/" in by_hand
    ]
    difference = first_difference([each for each in found if each not in free], fixed)
    if difference:
        raise CheckpointError(
            f"{folder} is a checkpoint of another model: {difference}. Resume with the model "
            "that it was made with, or set resume='never' or another run directory."
        )
    return list(found)


def _paths_by_hand(weights: Layout) -> list[str]:
    """Return the paths of objects that save values besides variables, or none yet."""
    variables = weights.sources.variables
    return [
        path
        for path, entry in weights.sources.entries.items()
        if not entry.values or any((path, key) not in variables for key in entry.values)
    ]


def _broadcast(tensors: Sequence[Tensor], folder: Path, run: RunSession) -> Iterator[Any]:
    """Yield each tensor on every rank; where root cannot read one, all ranks raise."""
    for tensor in tensors:
        value: Any = None
        if run.engine.is_root:
            try:
                value = read_tensor(folder, tensor)
            except OSError as cause:
                value = f"{folder / tensor.file} cannot be read ({cause})."
        value = run.engine.broadcast(value)
        if isinstance(value, str):
            raise CheckpointError(value)
        yield value


def _load_by_keras(model: Any, weights: Layout, by_hand: Mapping[str, Mapping[str, Any]]) -> None:
    """Let each object load its values itself: some hold more than variables or derived values."""
    sources = weights.sources
    values = {
        path: {
            **{
                key: sources.variables[path, key]
                for key in entry.values
                if (path, key) in sources.variables
            },
            **by_hand.get(path, {}),
        }
        for path, entry in sources.entries.items()
    }
    keras_state.load_entries(model, values, sources.skip)


def _load_assets(model: Any, folder: Path, run: RunSession) -> None:
    """Let layers load their assets, where these differ from the current ones."""
    files: dict[str, bytes] | None = run.on_root(lambda: _remaining_assets(model, folder))
    if files is not None:
        keras_state.load_assets(model, files)


def _remaining_assets(model: Any, folder: Path) -> dict[str, bytes] | None:
    names = [file.name for file in read(folder).files if file.name.startswith(f"{ASSETS}/")]
    saved = {name.removeprefix(f"{ASSETS}/"): inside(folder, name).read_bytes() for name in names}
    return None if (keras_state.read_assets(model) or {}) == saved else saved


def _with_wrapped(optimizer: Any) -> list[Any]:
    inner = [each for one in wrapped_optimizers(optimizer) for each in _with_wrapped(one)]
    return [optimizer, *inner]


def _variables_of(optimizer: Any) -> list[Any]:
    # Up to Keras 3.11 a LossScaleOptimizer does not keep them itself.
    return optimized_variables(optimizer) or [
        each for leaf in leaf_optimizers(optimizer) for each in optimized_variables(leaf)
    ]


def rank_state(model: Any, engine: Engine) -> dict[str, Any]:
    """Return the model state that only this rank has, as plain values.

    Args:
        model: the model, with all its variables created.
        engine: connects the ranks; every rank must call this.
    """
    reductions = reductions_of(model.metrics)
    return {
        "seeds": [_value(each.state) for each in seed_generators(model)],
        "metrics": [_value(each) for each in metric_variables(model)],
        # Some are known only after a metric's first use.
        "reductions": [reductions[id(each)] for each in metric_variables(model)],
        "local": _unlike_root(model, engine),
        "bases": sum_bases(model),
    }


def set_rank_state(
    model: Any, own: dict[str, Any], of_ranks: Sequence[dict[str, Any]], engine: Engine
) -> None:
    """Restore per-rank state, except for metrics. Call it once.

    Where the number of ranks has changed, weights that no optimizer updates are combined as at the
    end of an epoch, and each rank draws from a seed of its own.

    Args:
        model: the model, which holds the state of the checkpoint's root.
        own: the checkpoint's `rank_state` of this rank; of root where their number has changed.
        of_ranks: where it has changed, those of all ranks; else empty.
        engine: connects the current ranks.
    """
    for generator, value in zip(seed_generators(model), own["seeds"], strict=True):
        generator.state.assign(value)
    local = _local_variables(model)
    set_sum_bases(model, own["bases"])
    if not of_ranks:
        for place, value in own["local"].items():
            local[place].assign(value)
        return
    fold_rank(model, engine.rank)
    known = registered_reductions(model)
    averaged = {id(each): "mean" for each in half_accumulated(outermost_optimizers(model))}
    for place, variable in enumerate(local):
        root = _value(variable)
        values = [np.asarray(each["local"].get(place, root)) for each in of_ranks]
        reduction = (known | averaged).get(id(variable), "root")
        variable.assign(combine_state(values, reduction, sum_base(variable)).astype(root.dtype))
    begin_sums(model)


def set_metrics(
    model: Any, own: dict[str, Any], of_ranks: Sequence[dict[str, Any]], engine: Engine
) -> None:
    """Restore the metrics; where the number of ranks has changed, combine those of all ranks.

    Args:
        model: the model.
        own: as in `set_rank_state`.
        of_ranks: as in `set_rank_state`.
        engine: connects the current ranks.
    """
    variables = metric_variables(model)
    if not of_ranks:
        for variable, value in zip(variables, own["metrics"], strict=True):
            variable.assign(value)
        return
    reductions = own["reductions"]
    whole = [
        combine_arrays(values, reduction)
        for reduction, *values in zip(
            reductions, *(own["metrics"] for own in of_ranks), strict=True
        )
    ]
    for variable, reduction, value in zip(variables, reductions, whole, strict=True):
        # On the remaining ranks sums start at 0, as after a reset, so that they count once.
        if engine.is_root or reduction != "sum":
            variable.assign(value)


def _unlike_root(model: Any, engine: Engine) -> dict[int, NDArray[Any]]:
    """Return the variables of this rank that differ from root's within an epoch, by place."""
    if engine.size == 1:
        return {}
    values = [_value(each) for each in _local_variables(model)]
    own = np.array([int(digest(np.ascontiguousarray(each)), 16) >> 1 for each in values], np.int64)
    of_root = engine.broadcast(own)
    return {place: values[place] for place in np.flatnonzero(own != of_root).tolist()}


def _local_variables(model: Any) -> list[Any]:
    gathered = half_accumulated(outermost_optimizers(model))
    return [*model.non_trainable_weights, *gathered]


def _value(variable: Any) -> NDArray[Any]:
    value = np.array(keras.ops.convert_to_numpy(variable))
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else value


def rank_of_format_1(own: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Convert one rank's state from format 1 to the current format.

    Args:
        own: one rank's state in format 1.
        model: the model, with the checkpoint's weights and optimizers.
    """
    data = dict(own["data"])
    attributes = data.pop("attributes", {})
    data["object"] = {"changes": True, "state": _states(attributes)} if attributes else None
    reductions = reductions_of(model.metrics)
    of_model = {
        **own["model"],
        "reductions": [reductions[id(each)] for each in metric_variables(model)],
        "local": _local(own["model"]["local"], model),
        "bases": [],  # no weight could be registered as a sum then
    }
    callbacks = [_callback(each) for each in own["callbacks"]]
    return {**own, "model": of_model, "callbacks": callbacks, "data": data}


def _local(values: Mapping[int, Any], model: Any) -> dict[int, Any]:
    """Renumber the places: format 1 skipped integer weights that no optimizer updates."""
    weights = model.non_trainable_weights
    places = [place for place, each in enumerate(weights) if is_float(each)]
    return {
        places[old] if old < len(places) else old - len(places) + len(weights): value
        for old, value in values.items()
    }


def _callback(taken: Mapping[str, Any]) -> dict[str, Any]:
    """Keep both readings: format 1 does not record whether `get_state()` returned the state."""
    state = taken["state"]
    changes = isinstance(state, dict) and all(isinstance(name, str) for name in state)
    found = {"kind": taken["kind"], "changes": changes, "given": state}
    return {**found, "state": _states(state) if changes else state}


def _states(attributes: Mapping[str, Any]) -> dict[str, list[Any]]:
    capture = Capture(copies=False)
    return {name: capture.take(each, name) for name, each in attributes.items()}
