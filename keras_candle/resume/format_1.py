"""Convert the per-rank state of checkpoints of format 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_candle.resume.object_state import Capture
from keras_candle.training.metrics import metric_variables
from keras_candle.training.reductions import reductions_of
from keras_candle.training.shared_state import is_float


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
