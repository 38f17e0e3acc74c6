"""Read what each rank kept in checkpoints of the first format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_candle.resume.object_state import Capture
from keras_candle.training.metric_reductions import reductions_of
from keras_candle.training.metrics import metric_variables
from keras_candle.training.shared_state import is_float


def rank_of_format_1(own: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """One rank's own state in the form of today.

    Args:
        own: what was read, of the first format.
        model: that it is of, with its weights and optimizers as they were.
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
    """Whole numbers that no optimizer updates were not among the places."""
    weights = model.non_trainable_weights
    places = [place for place, each in enumerate(weights) if is_float(each)]
    return {
        places[old] if old < len(places) else old - len(places) + len(weights): value
        for old, value in values.items()
    }


def _callback(taken: Mapping[str, Any]) -> dict[str, Any]:
    """Whether it came from `get_state()` is not written there: the callback at hand says it."""
    state = taken["state"]
    changes = isinstance(state, dict) and all(isinstance(name, str) for name in state)
    found = {"kind": taken["kind"], "changes": changes, "given": state}
    return {**found, "state": _states(state) if changes else state}


def _states(attributes: Mapping[str, Any]) -> dict[str, list[Any]]:
    capture = Capture(copies=False)
    return {name: capture.take(each, name) for name, each in attributes.items()}
