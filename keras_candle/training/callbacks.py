"""What makes a user's callbacks, and the ranks' states around them, safe on N ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_candle.engine.base import Engine

# These write files or talk to servers and change nothing in the training: the root's are enough.
_WRITING_NAMES = (
    "BackupAndRestore",
    "CSVLogger",
    "ModelCheckpoint",
    "OrbaxCheckpoint",  # not in every Keras
    "ProgbarLogger",
    "RemoteMonitor",
    "TensorBoard",
)
WRITING_CALLBACKS = tuple(
    getattr(keras.callbacks, name) for name in _WRITING_NAMES if hasattr(keras.callbacks, name)
)


class Agreement(keras.callbacks.Callback):  # type: ignore[misc]
    """Stands last in the list: what the others did to the training, all ranks do.

    Args:
        engine: connects the ranks.
        synchronize: called when the other callbacks' `on_train_begin` is over, since a callback
            may have restored the root's state there.
    """

    def __init__(self, engine: Engine, synchronize: Callable[[], None]) -> None:
        super().__init__()
        self._engine, self._synchronize = engine, synchronize

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Give every rank the root's state."""
        self._synchronize()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Stop on all ranks when one wants to."""
        self.model.stop_training = bool(
            self._engine.allreduce(bool(self.model.stop_training), "max")
        )


def rank_safe(callbacks: Any, engine: Engine, last: keras.callbacks.Callback) -> Any:
    """The callbacks that this rank runs.

    Args:
        callbacks: what the user gave to `fit`: None, a callback, a list, or a CallbackList.
        engine: connects the ranks.
        last: put at the end of the list.

    Returns:
        The same kind of thing, without the callbacks that write files unless this is the root.
    """
    kept = getattr(callbacks, "callbacks", None)
    if kept is None:
        kept = keras.tree.flatten(callbacks) if callbacks else []
    kept = [each for each in kept if engine.is_root or not isinstance(each, WRITING_CALLBACKS)]
    kept = [each for each in kept if not isinstance(each, Agreement)] + [last]
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.callbacks[:] = kept
        last.set_model(callbacks.model)
        return callbacks
    return kept
