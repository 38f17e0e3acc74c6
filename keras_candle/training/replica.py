"""A rank's copy of a model that all ranks train: its optimizers and steps are hooked here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError
from keras_candle.training.batch_normalization import synchronize, synchronized_variables
from keras_candle.training.feed import Feed
from keras_candle.training.gradients import (
    Transform,
    adds_up_rows,
    average_over_ranks,
    leaf_optimizers,
    outermost_optimizers,
    transform_gradients,
)
from keras_candle.training.learning_rate import (
    LearningRateScale,
    scale_learning_rate,
    scaling_factor,
)
from keras_candle.training.metrics import metric_variables
from keras_candle.training.options import Options
from keras_candle.training.state import broadcast_state, check_same_model
from keras_candle.training.step import Share, Step, rows_of


class Replica:
    """What keras_candle knows of one model, and what it hooks into it.

    Args:
        model: the model.
        options: what the user asked for.
        engine: connects the ranks, more than one.
    """

    def __init__(self, model: Any, options: Options, engine: Engine) -> None:
        self.model, self.options, self.engine = model, options, engine
        self.step = Step()
        growth = options.batch_growth(engine.size)
        by_name = isinstance(options.learning_rate_scaling, str)
        factor = scaling_factor(options.learning_rate_scaling, growth if by_name else engine.size)
        self.scale = LearningRateScale(factor, advance=growth)
        self.has_root_state = False
        self._traced_for: Any = None

    def hook(self) -> None:
        """Hook what a step calls.

        Repeated before each training, since recompiling makes new optimizers and a copied
        optimizer is a plain one. What is hooked already is hooked anew, not twice.
        """
        for number, optimizer in enumerate(outermost_optimizers(self.model)):
            average = average_over_ranks(
                self.engine,
                f"optimizer.{number}",
                self.step,
                self.options.compression,
                adds_up_rows(optimizer),
            )
            transform_gradients(optimizer, self._scaling(optimizer), average)
        synchronize(self.model, self.engine, self.step, every_layer=self.options.sync_batch_norm)
        for name in ("train_step", "test_step"):
            current = getattr(self.model, name)
            if not hasattr(current, "candle_plain"):
                setattr(self.model, name, self._on_share(current))

    def _scaling(self, optimizer: Any) -> Transform:
        """The transform that leaves gradients alone, but scales the learning rates around them.

        A MultiOptimizer that chooses by a function consists of no optimizers before it is built,
        so this waits until then.
        """

        def scale(gradients: list[Any], variables: Sequence[Any]) -> list[Any]:
            if not optimizer.built and hasattr(optimizer, "optimizers"):
                optimizer.build(list(variables))
            for leaf in leaf_optimizers(optimizer):
                scale_learning_rate(leaf, self.scale)
            return gradients

        return scale

    def _on_share(self, plain: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A step on a `Share` of the data, or on plain data, which are a share as a whole."""

        def step(data: Any) -> Any:
            share = data if isinstance(data, Share) else Share(rows_of(data), data)
            self.step.rows = share.rows
            try:
                if self.step.may_be_empty:
                    return self._unless_empty(plain, share)
                return plain(share.data)
            finally:
                self.step.rows = None

        step.candle_plain = plain  # type: ignore[attr-defined]
        return step

    def _unless_empty(self, plain: Callable[[Any], Any], share: Share) -> Any:
        """A step that leaves metrics and moving statistics alone when the share has no rows."""
        import tensorflow as tf

        same_on_all = synchronized_variables(self.model)
        state = [*metric_variables(self.model), *self.model.non_trainable_weights]
        state = [variable for variable in state if id(variable) not in same_on_all]
        before = [tf.identity(variable.value) for variable in state]
        logs = plain(share.data)
        for variable, value in zip(state, before, strict=True):
            variable.assign(keras.ops.where(share.rows > 0, variable, value))
        return logs

    def expect(self, feed: Feed, *others: Feed | None) -> None:
        """Take note of the data to come; trace again when the traced steps took them for others.

        Raises:
            CandleError: when the warm-up has no number of steps to count by.
        """
        if feed.for_training and self.options.warmup_epochs and not feed.steps_per_epoch:
            raise CandleError(
                "warmup_epochs needs the number of steps of an epoch, and the data do not know "
                "it: give fit the argument steps_per_epoch."
            )
        feeds = [feed, *(other for other in others if other)]
        self.step.rows_expected = feed.rows_expected
        self.step.lookups_expected = feed.lookups_expected()
        self.step.may_be_empty |= any(each.may_be_empty for each in feeds)
        if feed.for_training:
            steps = self.options.warmup_epochs * (feed.steps_per_epoch or 0)
            self.scale.warmup_steps = round(steps)
        facts = (self.step.may_be_empty, self.scale.warmup_steps)
        if facts != self._traced_for:
            self.model.train_function = self.model.test_function = None
            self._traced_for = facts

    def build(self, batch: Any) -> None:
        """Make the model's and its metrics' variables before the first step.

        Args:
            batch: arrays or tensor specs like those of a step.

        Raises:
            CandleError: when the model can only be built by a step.
        """
        built = all(layer.built for layer in self.model._flatten_layers())
        optimizer: Any = getattr(self.model, "optimizer", None)
        build_later = optimizer is not None and not optimizer.built
        try:
            if build_later:
                # On one rank Keras builds the optimizer in its first step, and what an optimizer
                # (ScheduleFreeAdamW) does then is not what it does here.
                optimizer.built = True
            self.model._symbolic_build(data_batch=batch)
        except Exception as cause:
            if built:
                return  # the metrics of a custom training step come with its first call
            raise CandleError(
                f"The model cannot be built before its first step ({cause}). Build it in the "
                "function that makes it: model.build(input_shape), or call it on one batch."
            ) from cause
        finally:
            if build_later:
                optimizer.built = False

    def take_root_state(self) -> None:
        """Start this rank from the root's weights, optimizer variables and epoch."""
        optimizers = outermost_optimizers(self.model)
        check_same_model(self.model, optimizers, self.engine)
        broadcast_state(self.model, optimizers, self.engine)
        # A callback such as BackupAndRestore may have set it, on the root.
        self.model._initial_epoch = self.engine.broadcast(self.model._initial_epoch)
        self.has_root_state = True
