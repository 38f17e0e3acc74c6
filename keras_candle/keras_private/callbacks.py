"""The attributes that Keras's own callbacks change while they run."""

from __future__ import annotations

import dis
import functools
from types import FunctionType
from typing import Any

import keras

from keras_candle.errors import CandleError
from keras_candle.keras_private.models import is_keras_class

# Only attributes that decide how a training continues: EarlyStopping also turns the sign of its
# min_delta when it is first used, and would turn it back.
STATE: dict[str, tuple[str, ...]] = {
    "EarlyStopping": ("wait", "best", "best_epoch", "best_weights", "stopped_epoch"),
    "History": ("epoch", "history"),
    "ModelCheckpoint": (
        "best",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
        "_current_epoch",
    ),
    "OrbaxCheckpoint": (
        "best",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
        "_total_batches_seen",
    ),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "SwapEMAWeights": ("_ema_weights_in_model",),
    "TensorBoard": (
        "_global_train_batch",
        "_global_test_batch",
        "_previous_epoch_iterations",
    ),
}


def kind_of(callback: Any) -> str:
    """Return the name of the Keras class of a callback or its nearest base; "" for none."""
    for each in type(callback).__mro__:
        if is_keras_class(each) and each is not keras.callbacks.Callback:
            return each.__name__
    return ""


def state_of(callback: Any) -> dict[str, Any]:
    """Return the state that Keras's own class keeps in a callback."""
    known = STATE.get(kind_of(callback), ())
    return {name: getattr(callback, name) for name in known if hasattr(callback, name)}


def check_names() -> None:
    """Check that Keras's callbacks have the attributes that `STATE` names.

    Raises:
        CandleError: with the first attribute that is missing.
    """
    for kind, known in STATE.items():
        # OrbaxCheckpoint is not in every Keras.
        found = getattr(keras.callbacks, kind, None)
        missing = sorted(set(known) - (_assigned_in(found) if found else set(known)))
        if missing:
            raise CandleError(
                f"Keras {keras.__version__} has no {kind}.{missing[0]}, which a resumed training "
                "needs to continue as it would have. Install a Keras that keras_candle supports: "
                "pip install 'keras>=3.7,<3.16'."
            )


@functools.cache
def ignored_attributes(kind: type) -> frozenset[str]:
    """Return the attributes of a callback class that are not the user's state.

    Methods of Keras assign them, and `STATE` does not name them. An attribute that only Keras's
    `__init__` assigns is a setting: where it changes, the user's code changes it.
    """
    known = {name for each in kind.__mro__ for name in STATE.get(each.__name__, ())}
    return frozenset(_assigned_in(kind, but_init=True) | {"validation_data"}) - known


def _assigned_in(kind: type, *, but_init: bool = False) -> set[str]:
    """Return the names of the attributes that Keras's methods of a class assign."""
    return {
        step.argval
        for each in kind.__mro__
        if is_keras_class(each)
        for name, method in vars(each).items()
        if isinstance(method, FunctionType) and not (but_init and name == "__init__")
        for step in dis.get_instructions(method)
        if step.opname == "STORE_ATTR"
    }
