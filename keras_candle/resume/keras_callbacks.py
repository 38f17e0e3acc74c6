"""What Keras's own callbacks change in themselves while they run."""

from __future__ import annotations

import dis
import functools
from types import FunctionType
from typing import Any

import keras

from keras_candle.errors import CandleError
from keras_candle.keras_private.models import is_keras_class

# What of it decides how a training continues. Not all that they change: EarlyStopping turns the
# sign of its min_delta when it is first used, and would turn it back.
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
    """The name of Keras's own class that a callback is of, or derives from; "" for none."""
    for each in type(callback).__mro__:
        if _is_of_keras(each) and each is not keras.callbacks.Callback:
            return each.__name__
    return ""


def state_of(callback: Any) -> dict[str, Any]:
    """The state that Keras's class of a callback keeps in it."""
    known = STATE.get(kind_of(callback), ())
    return {name: getattr(callback, name) for name in known if hasattr(callback, name)}


def check_names() -> None:
    """Refuse a Keras whose callbacks keep their state under other names.

    Raises:
        CandleError: with the first name that is missing.
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
def left_out(kind: type) -> frozenset[str]:
    """Attributes of a class of callbacks that are not its user's state.

    Those that methods of Keras assign, and that `STATE` does not name. What only Keras's `__init__`
    assigns is a setting: when it has changed, it was the user's code.
    """
    known = {name for each in kind.__mro__ for name in STATE.get(each.__name__, ())}
    return frozenset(_assigned_in(kind, but_init=True) | {"validation_data"}) - known


def _assigned_in(kind: type, *, but_init: bool = False) -> set[str]:
    """Names of the attributes that Keras's methods of a class assign."""
    return {
        step.argval
        for each in kind.__mro__
        if _is_of_keras(each)
        for name, method in vars(each).items()
        if isinstance(method, FunctionType) and not (but_init and name == "__init__")
        for step in dis.get_instructions(method)
        if step.opname == "STORE_ATTR"
    }


def _is_of_keras(kind: type) -> bool:
    return is_keras_class(kind)
