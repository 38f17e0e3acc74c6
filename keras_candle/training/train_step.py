"""Run a model's training and test steps on shards; divide the batch of `train_on_batch`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_candle import backend
from keras_candle.backend import Shard
from keras_candle.data.fingerprint import fingerprint
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError
from keras_candle.keras_private.data import class_weight_to_sample_weights
from keras_candle.keras_private.models import KerasTrainer
from keras_candle.training.batch_normalization import synchronized_variables
from keras_candle.training.metrics import metric_variables
from keras_candle.training.options import ScalingOptions
from keras_candle.training.state_reductions import state_of_rows
from keras_candle.training.step_context import StepContext, traced_step

RunStep = Callable[[Any], Any]


def run_on_shards(model: Any, engine: Engine, step: StepContext) -> None:
    """Make a model's training and test step accept a `Shard`, or plain data as one.

    It replaces the methods on the instance; a second call changes nothing.

    Args:
        model: the model.
        engine: connects the ranks.
        step: the context that is filled in while a step is traced.
    """
    for name in ("train_step", "test_step"):
        current = getattr(model, name)
        if not hasattr(current, "candle_plain"):
            training = name == "train_step"
            setattr(model, name, _on_shard(model, engine, step, current, training=training))


def _on_shard(
    model: Any, engine: Engine, step: StepContext, plain: RunStep, *, training: bool
) -> RunStep:
    def run(data: Any) -> Any:
        step.training = training
        shard = _shard_in(data, step)
        step.rows, step.total = shard.rows, shard.total
        step.calls = 0
        step.gathered.clear()
        split = training and step.split_for_xla
        run_plain = backend.current().split_step(model, step) if split else plain
        try:
            with traced_step(engine, step), _row_losses_weighed(step, shard):
                if step.may_be_empty:
                    return _unless_empty(model, step, run_plain, shard)
                return run_plain(shard.data)
        finally:
            step.rows = step.total = None
            step.gathered.clear()

    run.candle_plain = plain  # type: ignore[attr-defined]
    return run


def _row_losses_weighed(step: StepContext, shard: Shard) -> AbstractContextManager[None]:
    """Let losses with one value a row add up to the global batch's, if there is one."""
    if not (step.training and step.is_one_batch):
        return nullcontext()
    return backend.current().weighing_row_losses(*shard)


def _shard_in(data: Any, step: StepContext) -> Shard:
    if isinstance(data, Shard):
        return data
    if isinstance(data, tuple) and isinstance(data[0], Shard):
        return data[0]  # as train_on_batch packs x
    rows = backend.current().rows_of(data)
    return Shard(rows, _total_of(rows, step), data)


def _total_of(rows: Any, step: StepContext) -> Any:
    """The rows of the global batch of plain data, from the rows of the rank."""
    total = ops.convert_to_tensor(0, "int32")
    for own, of_all in step.totals.items() if step.training else ():
        total = ops.where(ops.equal(rows, own), of_all, total)
    return total


def _unless_empty(model: Any, step: StepContext, plain: RunStep, shard: Shard) -> Any:
    """Run a step that leaves metrics and moving statistics unchanged when the shard has no rows."""
    of_rows = state_of_rows(model) - synchronized_variables(model)
    state = [each for each in model.non_trainable_weights if id(each) in of_rows]
    state += metric_variables(model)
    before = [ops.copy(variable) for variable in state]
    logs = plain(shard.data)
    for variable, value in zip(state, before, strict=True):
        variable.assign(keras.ops.where(shard.rows > 0, variable, value))
    if step.training and step.steps_without_rows is not None:
        step.steps_without_rows.assign_add(ops.cast(ops.equal(shard.rows, 0), "int64"))
    return logs


def why_not_split(model: Any) -> str | None:
    """Return the reason why a model's training step cannot be compiled in part, or None."""
    if type(model).train_step is not KerasTrainer.train_step:
        return "the model has a training step of its own"
    if synchronized_variables(model):
        return "batch normalisation needs a collective in the forward pass"
    return None


@dataclass(frozen=True)
class Batch:
    """A rank's shard of a batch of `train_on_batch`.

    Attributes:
        shard: the rank's rows.
        divided: True when all ranks had the same batch and have divided it; False when each rank
            had its own.
    """

    shard: Shard
    divided: bool

    @property
    def data(self) -> Any:
        """(x, y, sample_weight)."""
        return self.shard.data


def make_batch(given: dict[str, Any], options: ScalingOptions, engine: Engine) -> Batch:
    """Divide a batch among the ranks if all ranks have the same one.

    Args:
        given: the arguments of `train_on_batch`, by name.
        options: with `shard=False` each rank's batch is its own, even if they are equal.
        engine: connects the ranks.

    Raises:
        DataError: on every rank, when one of them cannot use its batch.
    """
    data: Any = None

    def read() -> str:
        nonlocal data
        x, y, sample_weight = given["x"], given["y"], given["sample_weight"]
        if given["class_weight"] is not None:
            if sample_weight is not None:
                raise ValueError(
                    "train_on_batch got sample_weight and class_weight, expected one of them."
                )
            sample_weight = class_weight_to_sample_weights(y, given["class_weight"])
        data = keras.tree.map_structure(_as_tensor, (x, y, sample_weight))
        return _described(x, y)

    seen = engine.gather_results(read, DataError)
    if options.shard and len(set(seen)) == 1:
        return Batch(backend.current().divide(data, engine), divided=True)
    return Batch(backend.current().own_shard(data), divided=False)


def _as_tensor(array: Any) -> Any:
    return None if array is None else keras.ops.convert_to_tensor(array)


def _described(x: Any, y: Any) -> str:
    arrays = [
        keras.ops.convert_to_numpy(each) for each in keras.tree.flatten((x, y)) if each is not None
    ]
    return repr(fingerprint(arrays))
