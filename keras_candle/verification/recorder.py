"""Record each training of a rank's program while it runs.

The methods are replaced on keras.Model itself, so that a scaled model, which calls its class's
methods, and a plain one are each recorded once. There are no collectives: a program that takes
another branch on some rank is recorded and does not hang.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_candle.cluster import launchers
from keras_candle.keras_private.models import is_evaluation_of_fit
from keras_candle.training.fit_chain import Place
from keras_candle.training.gradients import outermost_optimizers
from keras_candle.training.keras_methods import trainer_of
from keras_candle.training.step_chain import chain_of
from keras_candle.verification.facts import (
    FactWatcher,
    describe_data,
    rounding_noise,
    rows_of,
    values_of,
)
from keras_candle.verification.record import (
    Fact,
    TrainingRecord,
    WeightSnapshot,
    digest,
    write_arrays,
    write_manifest,
)
from keras_candle.verification.step_probe import probe_step
from keras_candle.verification.trial_step import without_noise

# The most bytes of weights stored after epochs; those at the start and the end are always stored.
_ROOM_BYTES = 2**30


class TrainingRecorder:
    """Records all trainings of this process.

    Args:
        folder: the folder for weights, the same for all ranks.
        manifest: descriptor of this rank's own file for the records.
        epochs: the largest number of epochs of a fit, None for all.
        exact: whether dropout and noise are turned off.
        shards: probe the first step of each training with so many shards, and end its epoch; 0 to
            record whole trainings.
    """

    def __init__(
        self,
        folder: str,
        manifest: int,
        epochs: int | None = None,
        *,
        exact: bool = False,
        shards: int = 0,
    ) -> None:
        launcher = launchers.detect()
        self._rank = int(os.environ.get(launcher.rank, "0")) if launcher else 0
        self._folder, self._manifest = Path(folder), manifest
        self._epochs, self._process = epochs, os.getpid()
        self._shards, self._probed = shards, False
        self._noise_of = without_noise if exact else contextlib.nullcontext
        self._records: list[TrainingRecord] = []
        self._room_bytes = _ROOM_BYTES
        # A model trained by train_on_batch, whose record is still open.
        self._open: tuple[Any, TrainingRecord, FactWatcher] | None = None

    def install(self) -> None:
        """Record every model from now on."""
        for name in ("fit", "evaluate", "train_on_batch"):
            setattr(keras.Model, name, _around(getattr(keras.Model, name), getattr(self, name)))
        if self._shards:
            make = keras.Model.make_train_function
            keras.Model.make_train_function = _around(make, self._make_train_function)
        atexit.register(self._close)

    def _make_train_function(
        self, plain: Callable[..., Any], model: Any, args: Any, kwargs: Any
    ) -> None:
        """Probe a training's first step before it runs; end a fit after it."""
        plain(*args, **kwargs)

        def first_step(train: Callable[[Any], Any], iterator: Any) -> Any:
            record = self._records[-1]
            if self._probed and record.kind == "fit":
                raise StopIteration
            if self._probed:
                return train(iterator)
            self._probed = True
            batch = keras.tree.map_structure(_as_tensor, next(iter(iterator)))
            record.facts += [Fact(*each) for each in probe_step(model, batch, self._shards)]
            self._write()
            return train(iter([batch]))

        # On one rank nothing else has this place.
        chain_of(model).put(Place.GUARD, first_step)

    def fit(self, plain: Callable[..., Any], model: Any, args: Any, kwargs: Any) -> Any:
        """Record one call of `fit`."""
        given = _arguments(plain, args, kwargs)
        if self._epochs is not None:
            given["epochs"] = min(given["epochs"], given["initial_epoch"] + self._epochs)
        record = self._begin("fit", model)
        described = describe_data(given)
        record.data, record.rows = described.fingerprints, described.rows
        watch = FactWatcher(model)
        recording = _Recording(lambda when: self._snapshot(record, model, when), watch.begin)
        given["callbacks"] = _with(recording, given["callbacks"])
        with self._noise_of(model):
            history = plain(**given)
        record.logs = {name: _plain(values) for name, values in history.history.items()}
        self._end(record, model, [*described.facts, *watch.facts()])
        record.steps = watch.steps()
        self._write()
        return history

    def evaluate(self, plain: Callable[..., Any], model: Any, args: Any, kwargs: Any) -> Any:
        """Record one call of `evaluate`, unless it belongs to a `fit`."""
        if is_evaluation_of_fit(kwargs):
            return plain(*args, **kwargs)
        record = self._begin("evaluate", model)
        x = kwargs.get("x", args[0] if args else None)
        record.rows = {"": rows_of(x)}
        result = plain(*args, **kwargs)
        record.logs = _logs(model, result)
        self._write()
        return result

    def train_on_batch(self, plain: Callable[..., Any], model: Any, args: Any, kwargs: Any) -> Any:
        """Record the calls of `train_on_batch` together, until another method is called."""
        if self._open is None or self._open[0] is not model:
            record = self._begin("train_on_batch", model)
            watch = FactWatcher(model)
            if model.built:
                self._snapshot(record, model, "start")
                watch.begin()
            self._open = (model, record, watch)
        record = self._open[1]
        with self._noise_of(model):
            result = plain(*args, **kwargs)
        for name, values in _logs(model, result).items():
            record.logs.setdefault(name, []).extend(values)
        calls = max(map(len, record.logs.values()), default=0)
        if calls == 1:
            self._snapshot(record, model, "step 1")
        return result

    def _begin(self, kind: str, model: Any) -> TrainingRecord:
        self._close_batches()
        self._probed = False
        name = f"{type(model).__name__} {model.name!r}"
        record = TrainingRecord(kind, name, scaled=trainer_of(model) is not None)
        self._records.append(record)
        return record

    def _snapshot(self, record: TrainingRecord, model: Any, when: str) -> None:
        record.weights = [weight.path for weight in model.weights]
        trainable = {id(weight) for weight in model.trainable_weights}
        record.trainable = [id(weight) in trainable for weight in model.weights]
        values = values_of(model.weights)
        file = None
        if self._rank == 0:
            needed = sum(value.nbytes for value in values)
            if when in ("start", "end") or needed <= self._room_bytes:
                self._room_bytes -= needed
                file = self._store(when, values)
        record.snapshots.append(WeightSnapshot(when, [digest(value) for value in values], file))

    def _store(self, what: str, values: list[np.ndarray[Any, Any]]) -> str:
        file = f"record-{len(self._records)}.{what.replace(' ', '-')}.npz"
        write_arrays(self._folder / file, values)
        return file

    def _end(self, record: TrainingRecord, model: Any, facts: list[Any]) -> None:
        self._snapshot(record, model, "end")
        variables = [each for opt in outermost_optimizers(model) for each in opt.variables]
        record.optimizer = [variable.path for variable in variables]
        if self._rank == 0:
            record.optimizer_file = self._store("optimizer", values_of(variables))
        record.facts += facts
        record.noise = rounding_noise(model)

    def _close_batches(self) -> None:
        if self._open is not None:
            model, record, watch = self._open
            self._open = None
            self._end(record, model, watch.facts())
            record.steps = watch.steps()

    def _close(self) -> None:
        # A process that the program forked inherits this, but has no records.
        if os.getpid() == self._process:
            self._close_batches()
            self._write()

    def _write(self) -> None:
        write_manifest(self._manifest, self._rank, self._records)


class _Recording(keras.callbacks.Callback):  # type: ignore[misc]
    """Takes the snapshots of a `fit`: at its start, after its first batch and after each epoch."""

    def __init__(self, snapshot: Callable[[str], None], begin: Callable[[], None]) -> None:
        super().__init__()
        self._snapshot, self._begin, self._is_first = snapshot, begin, True

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        self._snapshot("start")
        self._begin()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        if self._is_first:
            self._is_first = False
            self._snapshot(f"step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._snapshot(f"epoch {epoch + 1}")


def _around(plain: Callable[..., Any], record: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def recorded(model: Any, *args: Any, **kwargs: Any) -> Any:
        # Code that reads data ahead may draw more on N ranks, which would change the next model.
        python, numpy = random.getstate(), np.random.get_state()
        try:
            return record(functools.partial(plain, model), model, args, kwargs)
        finally:
            random.setstate(python)
            np.random.set_state(numpy)

    return recorded


def _arguments(plain: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    bound = inspect.signature(plain).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _with(last: keras.callbacks.Callback, callbacks: Any) -> Any:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.callbacks.append(last)  # Keras 3.15 has no append
        last.set_model(callbacks.model)
        return callbacks
    return [*(keras.tree.flatten(callbacks) if callbacks else []), last]


def _as_tensor(value: Any) -> Any:
    return keras.ops.convert_to_tensor(value) if isinstance(value, np.ndarray) else value


def _plain(values: Any) -> list[Any]:
    """Numbers of any kind as JSON values."""
    return [np.asarray(value, dtype=np.float64).tolist() for value in values]


def _logs(model: Any, result: Any) -> dict[str, list[Any]]:
    if isinstance(result, dict):
        return {name: _plain([value]) for name, value in result.items()}
    values = list(result) if isinstance(result, list | tuple) else [result]
    names = _metric_names(model)
    if len(names) != len(values):
        names = [f"result {number + 1}" for number in range(len(values))]
    return {name: _plain([value]) for name, value in zip(names, values, strict=True)}


def _metric_names(model: Any) -> list[str]:
    """The names in the order of Keras's list of results: of its metrics, then by name."""
    try:
        known = set(model.get_metrics_result())
    except ValueError:  # the model's own step does not update all of its metrics
        return []
    first = [each.name for each in model.metrics if each.name in known]
    return [*first, *sorted(known.difference(first))]
