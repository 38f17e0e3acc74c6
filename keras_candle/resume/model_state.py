"""Lay out a model's variables, optimizers and assets, and restore them on every rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_candle.checkpoints import keras_state
from keras_candle.checkpoints.contents import ASSETS, first_difference, read_tensor
from keras_candle.checkpoints.layout import Layout, layout_of, layout_of_variables
from keras_candle.checkpoints.manifest import Tensor, inside, read
from keras_candle.errors import CheckpointError
from keras_candle.keras_private.optimizers import optimized_variables
from keras_candle.resume.run_session import RunSession
from keras_candle.training.gradients import (
    leaf_optimizers,
    outermost_optimizers,
    wrapped_optimizers,
)
from keras_candle.training.shared_state import shared_variables


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
