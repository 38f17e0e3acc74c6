"""Describe a model's layers and how it was compiled, so that two scripts can be compared."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

import keras

from keras_candle.keras_private.models import layers_of

# No part of how a training goes on: the checkpoint has the weights and the random states.
_LEFT_OUT = ("build_config", "build_input_shape", "module", "registered_name", "seed")
_IN_COMPILE = ("loss", "loss_weights", "metrics", "weighted_metrics", "optimizer")


def describe_layers(model: Any) -> str:
    """All layers of a model with their settings and connections, as JSON.

    Without names, seeds and initializers. A layer that cannot describe itself has its class only.
    """
    layers = [[type(layer).__name__, _config_of(layer)] for layer in layers_of(model)]
    return json.dumps(layers)


def describe_compile(model: Any) -> dict[str, str]:
    """What a model was compiled with, as JSON by argument; what cannot be described is left out."""
    try:
        config = _serialized(model.get_compile_config) or {}
    except Exception:  # whatever a user's get_config raises
        return {}
    return {name: json.dumps(_plain(config.get(name))) for name in _IN_COMPILE if name in config}


def difference_of_layers(there: str, here: str, *, same_version: bool) -> str:
    """The first difference between two descriptions of layers; empty where there is none.

    Args:
        there: the checkpoint's.
        here: the script's.
        same_version: False compares only settings that both have: another version of Keras may
            have more or fewer.
    """
    one, other = json.loads(there), json.loads(here)
    kinds = [[each[0] for each in layers] for layers in (one, other)]
    for number, (mine, others) in enumerate(zip(one, other, strict=False)):
        if mine[0] != others[0]:
            return f"layer {number} is {mine[0]} there, {others[0]} here"
        for where, value, given in differences(mine[1], others[1], same_version=same_version):
            return f"{where} of layer {number} ({mine[0]}) is {value} there, {given} here"
    if len(one) != len(other):
        return f"{len(kinds[0])} layers there, {len(kinds[1])} here"
    return ""


def differences(
    one: Any, other: Any, where: str = "", *, same_version: bool = True
) -> Iterator[tuple[str, str, str]]:
    """(path, value, other value) wherever two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = [
            name for name in {**one, **other} if same_version or (name in one and name in other)
        ]
        for name in names:
            path = where if name == "config" else f"{where}.{name}".lstrip(".")
            mine, others = one.get(name), other.get(name)
            yield from differences(mine, others, path, same_version=same_version)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (mine, others) in enumerate(zip(one, other, strict=True)):
            path = f"{where}[{number}]"
            yield from differences(mine, others, path, same_version=same_version)
    elif one != other and repr(one) != repr(other):  # not NaN
        yield where, f"{one!r:.60}", f"{other!r:.60}"


def _config_of(layer: Any) -> Any:
    try:
        config = _serialized(lambda: keras.saving.serialize_keras_object(layer))["config"]
    except Exception:  # whatever a user's get_config raises
        return {}
    config.pop("name", None)
    if isinstance(config.get("layers"), list):
        # The layers follow by themselves.
        names = {each.get("name"): number for number, each in enumerate(config["layers"])}
        config["layers"] = [each.get("inbound_nodes") for each in config["layers"]]
        return _plain(_numbered(config, names))
    return _plain(config)


def _serialized(serialize: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lambdas, which are not to be loaded again
        return serialize()


def _numbered(value: Any, names: dict[str | None, int]) -> Any:
    """A container's config with numbers for the names of its layers."""
    if isinstance(value, dict):
        return {key: _numbered(each, names) for key, each in value.items()}
    if isinstance(value, list | tuple):
        first = value[0] if value else None
        if isinstance(first, str) and first in names and len(value) == len(["name", "node", "at"]):
            return [names[first], *value[1:]]
        return [_numbered(each, names) for each in value]
    return value


def _plain(value: Any) -> Any:
    """A config as JSON values, without what differs between two starts of one script."""
    if isinstance(value, dict):
        return _plain_dict(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    # An object's address is another one in each process.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _plain_dict(value: dict[Any, Any]) -> dict[str, Any]:
    kind = value.get("class_name")
    if kind == "__lambda__":
        return {"class_name": kind}
    kept = {}
    for key, each in value.items():
        name = str(key)
        if name in _LEFT_OUT or name == "shared_object_id" or name.endswith("initializer"):
            continue
        kept[name] = _plain(each)
    inner = kept.get("config")
    if isinstance(inner, dict) and not str(kind).endswith("DTypePolicy"):
        inner.pop("name", None)
    return kept
