"""Compare a script with the one that wrote a checkpoint, and refuse to resume another training.

Compared are descriptions of the layers, of `compile`'s arguments, the data and `fit`'s settings.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_candle.data.fingerprint import fingerprint
from keras_candle.data.tf_dataset import ancestors
from keras_candle.engine.base import Engine
from keras_candle.errors import CheckpointError
from keras_candle.keras_private.data import dataset_arrays
from keras_candle.keras_private.models import layers_of
from keras_candle.training.gradients import outermost_optimizers

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


_HINT = "Restore what it was made with, or set resume='never' or another run directory."
# A change of these within an epoch would change which rows the rest of it has.
_OF_EPOCH = ("batch size", "batches", "steps_per_epoch", "shuffle", "steps_per_execution")


def identity_of(model: Any, adapter: Any, engine: Engine) -> dict[str, Any]:
    """Return the facts that must be equal to resume a training: optimizers and data.

    The values of the data are root's: ranks that share data have compared them. Where each rank
    has data of its own, a dimension that differs by rank, such as a padded length, is None.
    """
    spec = adapter.get_tf_dataset().element_spec
    data = getattr(spec, "data", spec)
    leaves = [each for each in keras.tree.flatten(data) if each is not None]
    return {
        "optimizers": [type(each).__name__ for each in outermost_optimizers(model)],
        "rows of the data": getattr(adapter, "rows", None),
        "row shapes and dtypes of the data": _common_shapes(
            [(tuple(each.shape[1:]), each.dtype.name) for each in leaves], engine
        ),
        "values of the data": engine.on_root(lambda: _checksums(adapter), CheckpointError),
    }


def _checksums(adapter: Any) -> list[str] | None:
    """Return checksums of arrays, or of the tensors that a `tf.data.Dataset` is made from."""
    source = getattr(adapter, "source", None)
    if hasattr(source, "element_spec"):
        tensors = keras.tree.flatten([dataset_arrays(each) for each in ancestors(source)])
        # The remaining tensors refer to objects of Python.
        values = [each for each in tensors if each is not None and each.dtype.is_numpy_compatible]
        return fingerprint(values)
    found: list[str] | None = getattr(adapter, "fingerprint", None)
    return found


def _common_shapes(own: Sequence[tuple[tuple[int | None, ...], str]], engine: Engine) -> list[str]:
    common = []
    for of_ranks in zip(*engine.gather_objects(own), strict=False):
        lengths = [set(each) for each in zip(*(shape for shape, _ in of_ranks), strict=False)]
        shape = [each.pop() if len(each) == 1 else None for each in lengths]
        common.append(f"{shape} {of_ranks[0][1]}")
    return common


def settings_of(model: Any, adapter: Any, config: str) -> dict[str, Any]:
    """Return the settings that may change between two starts of a run, with a message.

    Args:
        model: the model, compiled.
        adapter: the adapter of its data.
        config: the text of the run directory's config.json.
    """
    asked = json.loads(config)
    return {
        "epoch": {
            "batch size": adapter.batch_size,
            "batches": adapter.num_batches,
            "steps_per_epoch": asked["fit"].get("steps_per_epoch"),
            "shuffle": asked["fit"].get("shuffle"),
            "steps_per_execution": int(model.steps_per_execution),
        },
        "compile": describe_compile(model),
        "options": asked["scalable"] or {},
        "versions": asked["versions"],
    }


def check_identity(folder: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse to resume a training whose identity differs.

    Raises:
        CheckpointError: with the first difference.
    """
    for what, value in expected.items():
        if what in found and found[what] != value:
            raise CheckpointError(
                f"{folder} was made with other {what}: {found[what]} there, {value} here. {_HINT}"
            )


def check_layers(folder: str, there: str, here: str, *, same_version: bool) -> None:
    """Refuse to resume a training whose layers differ.

    Raises:
        CheckpointError: with the first difference.
    """
    difference = difference_of_layers(there, here, same_version=same_version)
    if difference:
        raise CheckpointError(f"{folder} was made with another architecture: {difference}. {_HINT}")


def check_settings(
    folder: str, state: Mapping[str, Any], here: Mapping[str, Any], *, ranks: int, by_rows: bool
) -> list[str]:
    """Describe the changed settings of a run, one sentence each.

    Args:
        folder: the checkpoint.
        state: its state.
        here: value of `settings_of` for the current script.
        ranks: number of ranks of this attempt.
        by_rows: whether the data cursor counts rows rather than batches.

    Raises:
        CheckpointError: when a change would make it another training.
    """
    there = state["settings"]
    for name in ("loss", "loss_weights"):
        pair = (json.loads(each["compile"].get(name, "null")) for each in (there, here))
        for where, value, given in differences(*pair):
            raise CheckpointError(
                f"{folder} was made with another {name.replace('_', ' ')}: "
                f"{where or 'it'} is {value} there, {given} here. {_HINT}"
            )
    changed = list(_changes(there, here))
    if ranks == state["ranks"]:
        for name in _OF_EPOCH:
            value, given = there["epoch"].get(name), here["epoch"].get(name)
            if value == given or (by_rows and name == "batches"):
                continue
            if state["in_epoch"] and not (by_rows and name == "batch size"):
                raise CheckpointError(
                    f"{folder} is in the middle of an epoch with {name} {value}; {given} would "
                    f"change which rows are left of it. Use {value} until an epoch has ended, or "
                    "set resume='never' or another run directory."
                )
            changed.append(f"{name} was {value}, is {given}")
    return changed


def _changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for name in ("optimizer", "metrics", "weighted_metrics"):
        pair = (json.loads(each["compile"].get(name, "null")) for each in (there, here))
        for where, value, given in differences(*pair):
            yield f"{where or name} of the {name} was {value}, is {given}"
    names = ["versions"]
    if there["options"] and here["options"]:  # on one rank a model is not scaled, and has none
        names.append("options")
    for name in names:
        for where, value, given in differences(there[name], here[name]):
            yield f"{where} was {value}, is {given}"


def new_learning_rate(there: Mapping[str, Any], here: Mapping[str, Any]) -> float | None:
    """Return the script's learning rate where it differs from the earlier script's, else None."""
    rates = []
    for each in (there, here):
        config = _config_in(json.loads(each["compile"].get("optimizer", "null")))
        config = _config_in(config.get("inner_optimizer")) or config  # of a LossScaleOptimizer
        rates.append(config.get("learning_rate"))
    before, now = rates
    both = isinstance(before, float) and isinstance(now, float)
    return now if both and before != now else None


def _config_in(described: Any) -> dict[str, Any]:
    config = described.get("config") if isinstance(described, dict) else None
    return config if isinstance(config, dict) else {}
