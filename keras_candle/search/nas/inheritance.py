"""Copy a parent model's weights into a child, in layers whose names and shapes agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_candle.errors import SearchError

Tensors = dict[str, list[NDArray[Any]]]


@dataclass(frozen=True)
class Inherited:
    """The result of `inherit`.

    Attributes:
        taken: the paths of the variables that got the parent's values.
        reshaped: the paths of variables that have another shape in the parent; they are unchanged.
        new: the paths of variables that the parent doesn't have.
    """

    taken: tuple[str, ...]
    reshaped: tuple[str, ...]
    new: tuple[str, ...]


def inherit(model: Any, parent: Any) -> Inherited:
    """Copy the weights of a parent into a model, layer by layer.

    Layers are matched by the path of their names; those of the blocks and cells have the same names
    in each trial. A layer gets all its variables or none: a part of a layer's weights is useless.
    Moving statistics are copied, the optimizer's variables are not.

    Args:
        model: a built Keras model, which is changed.
        parent: a `.weights.h5` file that Keras or a checkpoint wrote; a built Keras model; or a
            mapping from variables' paths to arrays.

    Returns:
        The variables that were inherited, and those that were not.

    Raises:
        SearchError: when the file is missing or not of this kind, or the model isn't built.
    """
    if not model.built:
        raise SearchError(
            f"inherit got the model {model.name!r}, which is not built and so has no weights yet. "
            "Call it on data, or model.build(input_shape), before."
        )
    known = _tensors_of(parent)
    taken: list[str] = []
    reshaped: list[str] = []
    new: list[str] = []
    for layer, variables in _layers(model).items():
        paths = [variable.path for variable in variables]
        values = known.get(layer)
        if values is None:
            new += paths
        elif [value.shape for value in values] != [tuple(each.shape) for each in variables]:
            reshaped += paths
        else:
            taken += paths
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
    return Inherited(tuple(taken), tuple(reshaped), tuple(new))


def _layers(model: Any) -> dict[str, list[Any]]:
    """The variables of each layer, by the path of its name."""
    layers: dict[str, list[Any]] = {}
    for variable in model.weights:
        layers.setdefault(_layer_of(variable.path, model), []).append(variable)
    return layers


def _layer_of(path: str, model: Any) -> str:
    # The path includes the name of a Sequential or subclassed model, which Keras numbers in a
    # process.
    return str(path.removeprefix(f"{model.name}/").rpartition("/")[0])


def _tensors_of(parent: Any) -> Tensors:
    if isinstance(parent, str | os.PathLike):
        return _read(os.fspath(parent))
    if isinstance(parent, Mapping):
        tensors: Tensors = {}
        for variable, value in parent.items():
            tensors.setdefault(variable.rpartition("/")[0], []).append(np.asarray(value))
        return tensors
    return {
        layer: [_array(each) for each in variables] for layer, variables in _layers(parent).items()
    }


def _array(variable: Any) -> NDArray[Any]:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(variable))


def _read(path: str) -> Tensors:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return dict(_walk(file, ()))
    except OSError as cause:
        raise SearchError(
            f"inherit cannot read the parent's weights from {path} ({cause}). It takes a "
            ".weights.h5 file, such as model.save_weights writes."
        ) from cause


def _walk(group: Any, names: tuple[str, ...]) -> Iterator[tuple[str, list[NDArray[Any]]]]:
    """Each layer of a file with its variables; Keras writes the layers' names beside them."""
    own = group.get("vars")
    if own is not None and group.name != "/":
        if "name" not in own.attrs:
            raise SearchError(
                f"inherit got the file {group.file.filename}, in which layers have no names: a "
                "Keras version that is too old wrote it. Write it again, or pass the parent model."
            )
        names = (*names, str(own.attrs["name"]))
        if len(own):
            yield "/".join(names), [own[key][()] for key in sorted(own, key=int)]
    for key, child in group.items():
        if key not in ("vars", "optimizer") and hasattr(child, "items"):
            yield from _walk(child, names)
