"""Describe a model's layers and how it was compiled, so that two scripts can be compared."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

import keras

from keras_candle.keras_private.models import layers_of

# Without effect on a resume: the checkpoint has the weights and the random states.
_LEFT_OUT = ("build_config", "build_input_shape", "module", "registered_name", "seed")
_IN_COMPILE = ("loss", "loss_weights", "metrics", "weighted_metrics", "optimizer")


def describe_layers(model: Any) -> str:
    """Describe all layers of a model with their settings and connections, as JSON.

    Without names, seeds and initializers. A layer whose `get_config` fails has its class only.
    """
    layers = [[type(layer).__name__, _config_of(layer)] for layer in layers_of(model)]
    return json.dumps(layers)


def describe_compile(model: Any) -> dict[str, str]:
    """Describe the arguments of `compile`, as JSON by name, without those that have no config."""
    try:
        config = _serialized(model.get_compile_config) or {}
    except Exception:  # whatever a user's get_config raises
        return {}
    return {name: json.dumps(_plain(config.get(name))) for name in _IN_COMPILE if name in config}


def difference_of_layers(there: str, here: str, *, same_version: bool) -> str:
    """Return the first difference between two descriptions of layers; empty for none.

    Args:
        there: the checkpoint's description.
        here: the script's description.
        same_version: False compares only settings that both have: another version of Keras may
            have more or fewer.
    """
    saved, current = json.loads(there), json.loads(here)
    for number, (before, now) in enumerate(zip(saved, current, strict=False)):
        if before[0] != now[0]:
            return f"layer {number} is {before[0]} there, {now[0]} here"
        for where, value, given in differences(before[1], now[1], same_version=same_version):
            return f"{where} of layer {number} ({before[0]}) is {value} there, {given} here"
    if len(saved) != len(current):
        return f"{len(saved)} layers there, {len(current)} here"
    return ""


def differences(
    first: Any, second: Any, where: str = "", *, same_version: bool = True
) -> Iterator[tuple[str, str, str]]:
    """Yield (path, first value, second value) wherever two JSON values differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        names = [
            name
            for name in {**first, **second}
            if same_version or (name in first and name in second)
        ]
        for name in names:
            path = where if name == "config" else f"{where}.{name}".lstrip(".")
            pair = first.get(name), second.get(name)
            yield from differences(*pair, path, same_version=same_version)
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for number, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, f"{where}[{number}]", same_version=same_version)
    elif first != second and repr(first) != repr(second):  # not NaN
        yield where, f"{first!r:.60}", f"{second!r:.60}"


def _config_of(layer: Any) -> Any:
    try:
        config = _serialized(lambda: keras.saving.serialize_keras_object(layer))["config"]
    except Exception:  # whatever a user's get_config raises
        return {}
    config.pop("name", None)
    if isinstance(config.get("layers"), list):
        # The layers have descriptions of their own.
        names = {each.get("name"): number for number, each in enumerate(config["layers"])}
        config["layers"] = [each.get("inbound_nodes") for each in config["layers"]]
        return _plain(_numbered(config, names))
    return _plain(config)


def _serialized(serialize: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lambdas, which are not to be loaded again
        return serialize()


def _numbered(value: Any, names: dict[str | None, int]) -> Any:
    """Replace the names of a container's layers by their numbers in its config."""
    if isinstance(value, dict):
        return {key: _numbered(each, names) for key, each in value.items()}
    if isinstance(value, list | tuple):
        first = value[0] if value else None
        if isinstance(first, str) and first in names and len(value) == len(["name", "node", "at"]):
            return [names[first], *value[1:]]
        return [_numbered(each, names) for each in value]
    return value


def _plain(value: Any) -> Any:
    """Convert a config to JSON values, without what differs between two starts of one script."""
    if isinstance(value, dict):
        return _plain_dict(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    # An object's address differs between processes.
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
