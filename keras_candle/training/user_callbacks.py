"""Make a user's callbacks safe on N ranks: who runs them, and how the ranks agree around them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.engine.consensus import StopConsensus
from keras_candle.training.fit_call import listed

# Callbacks that write files or talk to servers and do not change the training: run on root only.
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
# Packages whose callbacks all report to a server or a file.
_REPORTING_PACKAGES = ("aim", "clearml", "comet_ml", "dvclive", "mlflow", "neptune", "wandb")

_BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
# Callbacks that have such hooks and never stop a training there.
_NEVER_STOPS = (*WRITING_CALLBACKS, keras.callbacks.History, keras.callbacks.SwapEMAWeights)


class Agreement(keras.callbacks.Callback):  # type: ignore[misc]
    """The last callback of a training: applies on all ranks what callbacks did on one of them.

    Args:
        stop: the ranks' consensus on stopping.
        synchronize: called after the `on_train_begin` of all callbacks before it, since one of
            them may have restored the root's state there.
        compare: called with the epoch at its end.
    """

    def __init__(
        self,
        stop: StopConsensus,
        synchronize: Callable[[], None],
        compare: Callable[[int], None],
    ) -> None:
        super().__init__()
        self._stop, self._synchronize, self._compare = stop, synchronize, compare

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Give every rank the root's state."""
        self._synchronize()
        self._stop.agree()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Stop on all ranks when one has a stop request."""
        self._stop.agree()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Stop on all ranks when one has a stop request; compare their state."""
        self._stop.agree()
        self._compare(epoch)


class BatchAgreement(Agreement):
    """An `Agreement` that also agrees on stopping after each batch.

    Keras waits for each batch when a callback has a batch hook, so this is only for trainings
    whose own callbacks have one.
    """

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Stop on all ranks after the batch in which one has a stop request."""
        self._stop.agree()


def rank_safe(
    callbacks: Any,
    engine: Engine,
    stop: StopConsensus,
    synchronize: Callable[[], None],
    compare: Callable[[int], None],
) -> Any:
    """Return the callbacks that this rank runs.

    Args:
        callbacks: the callbacks given to `fit`: None, a callback, a list, or a CallbackList.
        engine: connects the ranks.
        stop: the ranks' consensus on stopping.
        synchronize: gives every rank the root's state, at train begin.
        compare: compares the ranks' states, at the end of an epoch.

    Returns:
        A list or the CallbackList, on other ranks than the root without callbacks that only write.
    """
    kept = [each for each in listed(callbacks) if engine.is_root or not only_writes(each)]
    kept = [each for each in kept if not isinstance(each, Agreement)]
    # Decided together: the ranks' callbacks may differ, and what follows is collective.
    on_batches = engine.allreduce(any(_may_stop_at_a_batch(each) for each in kept), "max")
    kind = BatchAgreement if on_batches else Agreement
    kept.append(kind(stop, synchronize, compare))
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.callbacks[:] = kept
        kept[-1].set_model(callbacks.model)
        return callbacks
    return kept


def only_writes(callback: Any) -> bool:
    """Whether a callback only writes files or reports, and so runs on the root alone."""
    package = type(callback).__module__.partition(".")[0]
    return isinstance(callback, WRITING_CALLBACKS) or package in _REPORTING_PACKAGES


def in_writing_callback() -> bool:
    """Whether a callback that runs on the root alone is calling: there a collective would hang."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.Callback) and only_writes(caller):
            return True
    return False


def _may_stop_at_a_batch(callback: Any) -> bool:
    if type(callback) in _NEVER_STOPS:
        return False
    base = keras.callbacks.Callback
    # LambdaCallback sets its hooks on the instance.
    return any(
        getattr(getattr(callback, hook), "__func__", None) is not getattr(base, hook)
        for hook in _BATCH_HOOKS
    )
