"""Run a model's training and test steps on shards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_candle.data.shard import Shard, rows_of
from keras_candle.engine.base import Engine
from keras_candle.training.batch_normalization import synchronized_variables
from keras_candle.training.global_rows import traced_step
from keras_candle.training.loss_gradients import summed_over_ranks
from keras_candle.training.metrics import metric_variables
from keras_candle.training.split_step import split_step
from keras_candle.training.state_reductions import state_of_rows
from keras_candle.training.step_context import StepContext

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
        run_plain = split_step(model, step) if training and step.split_for_xla else plain
        try:
            with traced_step(engine, step), summed_over_ranks(step, shard.data):
                if step.may_be_empty:
                    return _unless_empty(model, step, run_plain, shard)
                return run_plain(shard.data)
        finally:
            step.rows = step.total = None
            step.gathered.clear()

    run.candle_plain = plain  # type: ignore[attr-defined]
    return run


def _shard_in(data: Any, step: StepContext) -> Shard:
    if isinstance(data, Shard):
        return data
    if isinstance(data, tuple) and isinstance(data[0], Shard):
        return data[0]  # as train_on_batch packs x
    rows = rows_of(data)
    return Shard(rows, _total_of(rows, step), data)


def _total_of(rows: Any, step: StepContext) -> Any:
    """The rows of the global batch of plain data, from the rows of the rank."""
    import tensorflow as tf

    total = tf.constant(0)
    for own, of_all in step.totals.items() if step.training else ():
        total = tf.where(rows == own, of_all, total)
    return total


def _unless_empty(model: Any, step: StepContext, plain: RunStep, shard: Shard) -> Any:
    """Run a step that leaves metrics and moving statistics unchanged when the shard has no rows."""
    import tensorflow as tf

    of_rows = state_of_rows(model) - synchronized_variables(model)
    state = [each for each in model.non_trainable_weights if id(each) in of_rows]
    state += metric_variables(model)
    before = [tf.identity(variable.value) for variable in state]
    logs = plain(shard.data)
    for variable, value in zip(state, before, strict=True):
        variable.assign(keras.ops.where(shard.rows > 0, variable, value))
    if step.training and step.steps_without_rows is not None:
        step.steps_without_rows.assign_add(tf.cast(tf.equal(shard.rows, 0), tf.int64))
    return logs
