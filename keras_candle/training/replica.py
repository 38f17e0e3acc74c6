"""The replica: a rank's copy of a model, with hooks in its optimizers, losses and steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from keras_candle import backend
from keras_candle.data.sharded_input import ShardedInput
from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError, DivergenceError
from keras_candle.keras_private.models import (
    build_symbolically,
    initial_epoch,
    layers_inside,
    set_initial_epoch,
)
from keras_candle.training.batch_normalization import synchronize
from keras_candle.training.gradients import (
    Transform,
    adds_up_rows,
    average_accumulated,
    average_over_ranks,
    half_accumulated,
    leaf_optimizers,
    outermost_optimizers,
    transform_gradients,
)
from keras_candle.training.layer_attributes import LayerAttributes
from keras_candle.training.learning_rate import (
    LearningRateScale,
    scale_learning_rate,
)
from keras_candle.training.losses import weigh_losses
from keras_candle.training.metrics import watch_metrics
from keras_candle.training.options import ScalingOptions, scaling_factor
from keras_candle.training.shared_state import (
    broadcast_state,
    build_optimizers,
    check_same_model,
)
from keras_candle.training.state_reductions import (
    begin_sums,
    reduce_state,
    remedy,
    unregistered_state,
)
from keras_candle.training.step_chain import chain_of
from keras_candle.training.step_context import StepContext
from keras_candle.training.train_step import run_on_shards


class Replica:
    """A rank's copy of one model, and the hooks that make its steps data-parallel.

    Args:
        model: the model.
        options: the user's options.
        engine: connects the ranks, more than one.
    """

    def __init__(self, model: Any, options: ScalingOptions, engine: Engine) -> None:
        self.model, self.options, self.engine = model, options, engine
        self.step, self.scale = StepContext(), LearningRateScale()
        self._attributes = LayerAttributes(model, engine)
        self._grow(options.division.batch_growth(engine.size))
        self.has_root_state = self.has_local_state = self._reported_state = False
        self._traced_for: Any = None
        self._depth = 0
        # facts -> (train_function, test_function), for calls inside a call.
        self._functions: dict[Any, tuple[Any, Any]] = {}

    def _grow(self, growth: int) -> None:
        """Scale learning rates for a global batch `growth` times as large as on one rank."""
        rule = self.options.learning_rate_scaling
        by_name = isinstance(rule, str)
        self.scale.factor = scaling_factor(rule, growth if by_name else self.engine.size)
        self.scale.advance = growth

    def forget_functions(self) -> None:
        """Drop the traced functions, after the model was compiled anew."""
        self._functions.clear()

    def hook(self) -> None:
        """Install the hooks in optimizers, losses, batch normalisation and steps.

        Repeated before each training, since recompiling makes new optimizers and a copied
        optimizer is a plain one. Existing hooks are replaced, not doubled.
        """
        for number, optimizer in enumerate(outermost_optimizers(self.model)):
            name = f"optimizer.{number}"
            average = average_over_ranks(
                self.engine,
                name,
                self.step,
                self.options.compression,
                adds_up_rows(optimizer),
                self.options.sum_embedding_slices and not adds_up_rows(optimizer),
            )
            average = average_accumulated(
                optimizer, average, self.engine, name, self.step, self.options.compression
            )
            transform_gradients(optimizer, self._scaling(optimizer), average)
        synchronize(self.model, self.engine, self.step, every_layer=self.options.sync_batch_norm)
        run_on_shards(self.model, self.engine, self.step)
        self._weigh_losses()

    def _weigh_losses(self) -> None:
        weigh_losses(self.model, self.engine, self.step, exact=self.options.exact_loss)

    def _scaling(self, optimizer: Any) -> Transform:
        """A transform that returns the gradients unchanged and scales the learning rates.

        A MultiOptimizer that chooses by a function has no inner optimizers before it is built, so
        this waits until then.
        """

        def scale(gradients: list[Any], variables: Sequence[Any]) -> list[Any]:
            if not optimizer.built and hasattr(optimizer, "optimizers"):
                optimizer.build(list(variables))
            for leaf in leaf_optimizers(optimizer):
                scale_learning_rate(leaf, self.scale)
            return gradients

        return scale

    def prepare(self, data: ShardedInput, validation: ShardedInput | None = None) -> None:
        """Prepare the step context and the learning-rate scale for the data of a call.

        Raises:
            CandleError: when a warm-up is asked for and the steps of an epoch are unknown.
        """
        if data.for_training and self.options.warmup_epochs and not data.steps_per_epoch:
            raise CandleError(
                "warmup_epochs needs the number of steps of an epoch, which is unknown for these "
                "data. Give fit the argument steps_per_epoch."
            )
        step = self.step
        step.may_be_empty |= any(each.may_be_empty for each in (data, validation) if each)
        if data.for_training:
            step.rows_expected = data.rows_expected
            step.lookups_expected = data.lookups_expected
            step.knows_total, step.totals = data.knows_total, data.totals
            step.is_one_batch = data.knows_total and data.growth == 1
            step.steps_without_rows = (
                keras.Variable(0, dtype="int64", trainable=False) if data.must_not_run_out else None
            )
            self._grow(data.growth)
            self.scale.warmup_steps = round(
                self.options.warmup_epochs * (data.steps_per_epoch or 0)
            )
        self.retrace()

    def prepare_batch(self, *, divided: bool) -> None:
        """Prepare for a batch outside of `fit`: one that the ranks divide, or one of each rank."""
        step = self.step
        step.may_be_empty |= divided
        step.knows_total = step.is_one_batch = divided
        step.steps_without_rows, step.totals = None, {}
        self._grow(1 if divided else self.options.division.batch_growth(self.engine.size))
        self.retrace()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Context of a training or an evaluation, which may run inside another one of this model.

        A callback of `fit` may call evaluate or train_on_batch: afterwards the outer training
        continues with its own step context, learning-rate scale and traced functions.
        """
        facts, self._depth = (dict(vars(self.step)), dict(vars(self.scale))), self._depth + 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth:
                vars(self.step).update(facts[0])
                vars(self.scale).update(facts[1])
                self.retrace()
            else:
                self._functions.clear()

    def retrace(self) -> None:
        """Drop traced step functions where they were traced for another step context or scale."""
        step, scale = self.step, self.scale
        facts = (
            (step.may_be_empty, step.knows_total, step.is_one_batch, id(step.steps_without_rows)),
            tuple(step.totals.items()),
            (scale.factor, scale.advance, scale.warmup_steps, scale.offset),
        )
        if facts == self._traced_for:
            return
        model, kept, chain = self.model, self._functions, chain_of(self.model)
        before = chain.take(), model.test_function
        if self._depth > 1 or kept:
            kept[self._traced_for] = before
        train, model.test_function = kept.pop(facts, (None, None))
        chain.restore(train)
        self._traced_for = facts

    def build(self, batch: Any) -> None:
        """Create the variables of model and metrics before the first step, see `build_model`."""
        build_model(self.model, batch)
        watch_metrics(self.model, self.engine, self.step)
        self._weigh_losses()

    def take_root_state(self) -> None:
        """Start this rank from the root's weights, optimizer variables and epoch."""
        optimizers = outermost_optimizers(self.model)
        build_optimizers(self.model, optimizers, self.engine)
        check_same_model(self.model, optimizers, self.engine)
        broadcast_state(self.model, optimizers, self.engine)
        if self._attributes.take_root_values():
            # Traced with other constants.
            self.model.test_function = self.model.predict_function = None
            self.forget_functions()
        # A callback such as BackupAndRestore may have set it, on the root.
        set_initial_epoch(self.model, self.engine.broadcast(initial_epoch(self.model)))
        begin_sums(self.model)
        self.has_root_state, self.has_local_state = True, False

    def reduce_local_state(self) -> None:
        """Reduce over the ranks the state that each rank has computed from its own rows.

        Raises:
            DivergenceError: where the ranks divide one batch, and no reduction is registered for a
                weight that differs.
        """
        waiting = half_accumulated(outermost_optimizers(self.model))
        unknown = reduce_state(self.model, self.engine, waiting)
        self.has_local_state = False
        self._refuse(unknown)
        self._attributes.reconcile_variables(refuse=self.step.is_one_batch)
        if unknown and not self._reported_state:
            self._reported_state = True
            self.engine.print_on_root(
                f"The weight {unknown[0].path} differs by rank; at the end of each epoch all ranks "
                f"take the root's. {remedy(self.model, unknown[0])}."
            )

    def check_local_state(self, *, first: bool) -> None:
        """Refuse early what `reduce_local_state` would refuse at the end of the epoch.

        Args:
            first: whether this is one of the first steps, after which weights are compared, too,
                and any variable exists that steps create.
        """
        if not self.step.is_one_batch:
            return
        if first:
            self._refuse(unregistered_state(self.model, self.engine))
        if first or self._attributes.has_variables:
            self._attributes.reconcile_variables(refuse=True)

    def _refuse(self, unknown: Sequence[Any]) -> None:
        if unknown and self.step.is_one_batch:
            hint = remedy(self.model, unknown[0])
            raise DivergenceError(f"The weight {unknown[0].path} differs by rank. {hint}.")


def build_model(model: Any, batch: Any) -> None:
    """Create the variables of a model and of its metrics without running a step.

    Args:
        model: a compiled keras model.
        batch: arrays or tensor specs like those of a step.

    Raises:
        CandleError: when the model can only be built by a step that runs.
    """
    optimizer: Any = getattr(model, "optimizer", None)
    build_later = optimizer is not None and not optimizer.built
    problem: Exception | None = None
    try:
        if build_later:
            # On one rank Keras builds the optimizer in its first step. Some (ScheduleFreeAdamW)
            # would be built differently here.
            optimizer.built = True
        build_symbolically(model, batch)
    except Exception as caught:
        problem = caught
    finally:
        if build_later:
            optimizer.built = False
    # A model that only has a training step (a GAN) need not be built itself.
    parts = layers_inside(model)
    if problem is not None and not all(layer.built for layer in parts):
        _build_by_tracing(model, batch, problem)


def _build_by_tracing(model: Any, batch: Any, cause: Exception) -> None:
    try:
        backend.current().trace_step(model.train_step, batch)
    except Exception as also:
        raise CandleError(
            f"Cannot build the model before its first step ({cause}; {also}). Build it in the "
            "function that makes it: model.build(input_shape), or call it on one batch."
        ) from cause
