"""fit, evaluate and their like as N ranks do them.

They stand on one model's instance in the place of its class's methods. The class, and with it
saving, pickling and everybody else's models, stays as it is.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from types import MethodType
from typing import Any

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError
from keras_candle.training.batch import make_batch
from keras_candle.training.callbacks import rank_safe
from keras_candle.training.durable import AroundFit, Durable, around_fit
from keras_candle.training.feed import make_feed, make_feeds
from keras_candle.training.gradients import leaf_optimizers
from keras_candle.training.learning_rate import effective_learning_rate
from keras_candle.training.metrics import global_result
from keras_candle.training.options import Options
from keras_candle.training.prediction import predict_together
from keras_candle.training.refusals import check_environment, check_trainable
from keras_candle.training.replica import Replica
from keras_candle.training.saving import save_whole
from keras_candle.training.source import Source
from keras_candle.training.split_step import why_not
from keras_candle.training.stop_consensus import StopConsensus
from keras_candle.training.watch import Watch

METHODS = (
    "compile",
    "evaluate",
    "export",
    "fit",
    "make_train_function",
    "predict",
    "save",
    "save_weights",
    "train_on_batch",
    "_get_metrics_result_or_logs",
)


def scale_model(model: Any, options: Options, engine: Engine) -> Any:
    """Make a model train on N ranks. On one rank nothing of it is touched.

    Args:
        model: a keras model; a second call changes nothing.
        options: what the user asked for.
        engine: connects the ranks.

    Returns:
        The model.

    Raises:
        CandleError: when the installed Keras is not one that we know.
        EngineError: when the model is made for another way to divide the work.
    """
    if engine.size > 1 and not hasattr(model, "_candle_trainer"):
        check_environment(model)
        Trainer(Replica(model, options, engine))
    return model


class Trainer:
    """The methods of one model.

    Attributes:
        replica: the model, its options and its engine.
        stop: the ranks' consensus on stopping the present training.
    """

    def __init__(self, replica: Replica) -> None:
        model = replica.model
        self.replica, self._model, self._engine = replica, model, replica.engine
        self._watch = Watch(replica)
        self.stop = StopConsensus(model, self._engine)
        self._fitting = self._evaluating = self._told_of_xla = self._agreed = False
        # Past Keras's own bookkeeping of attributes, which looks for layers and variables.
        object.__setattr__(model, "_candle_trainer", self)
        object.__setattr__(model, "__deepcopy__", self._copy)
        for name in METHODS:
            setattr(model, name, getattr(self, name))
        model.train_function = model.test_function = None
        replica.hook()

    def _plain(self, name: str) -> Any:
        """A method of the model's class. Looked up when needed: others may replace it there."""
        return MethodType(getattr(type(self._model), name), self._model)

    def _copy(self, memo: dict[int, Any]) -> Any:
        """What copy.deepcopy makes: Keras's plain copy, scaled as this model is."""
        object.__delattr__(self._model, "__deepcopy__")
        try:
            plain = copy.deepcopy(self._model, memo)
        finally:
            object.__setattr__(self._model, "__deepcopy__", self._copy)
        return scale_model(plain, self.replica.options, self._engine)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        self._plain("compile")(*args, **kwargs)
        self.replica.hook()

    def make_train_function(self, *args: Any, **kwargs: Any) -> Any:
        self.replica.hook()
        asked = self._model.jit_compile
        if asked:
            self._split_for_xla()
        self._model.jit_compile = False
        try:
            self._plain("make_train_function")(*args, **kwargs)
        finally:
            self._model.jit_compile = asked
        self._model.train_function = self._together(self._model.train_function)

    def _together(self, train: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A train function after which the ranks compare themselves, and none stops alone."""
        train = getattr(train, "candle_plain", train)

        def train_together(iterator: Any) -> Any:
            logs = train(iterator)
            self._watch.after_step()
            self.stop.hold_back()
            return logs

        train_together.candle_plain = train  # type: ignore[attr-defined]
        return train_together

    def _split_for_xla(self) -> None:
        obstacle = why_not(self._model)
        self.replica.step.split_for_xla = obstacle is None
        if obstacle and not self._told_of_xla:
            self._told_of_xla = True
            self._engine.say(
                f"jit_compile: the training step runs without XLA, since {obstacle} and XLA has no "
                "collectives; evaluate and predict keep it."
            )

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        check_trainable(self._model)
        given = self._arguments("fit", args, kwargs)
        around = around_fit(given["callbacks"])
        self._agree_on_options()
        self._agree_on_loop(around)
        return self._fit(given) if around is None else around.run_fit(self._model, given, self._fit)

    def _agree_on_options(self) -> None:
        """Refuse options that differ by rank, before the first collective that they decide.

        Raises:
            CandleError: with every rank's options.
        """
        if self._agreed:
            return
        self._agreed = True
        options = asdict(self.replica.options)
        rule = options["learning_rate_scaling"]
        if callable(rule):  # its address is another one on each rank
            options["learning_rate_scaling"] = getattr(rule, "__qualname__", type(rule).__name__)
        self._engine.agree("the options of candle.scalable", options, CandleError)

    def _agree_on_loop(self, around: AroundFit | None) -> None:
        model = self._model
        loop = {
            "CandleCallback": "given" if around is not None else "none",
            "steps_per_execution": model.steps_per_execution,
            "run_eagerly": model.run_eagerly,
        }
        self._engine.agree("how they train; every rank must train alike", loop, CandleError)

    def _fit(self, given: dict[str, Any], durable: Durable | None = None) -> Any:
        start = durable.start if durable else None
        feed, validation = make_feeds(given, self.replica.options, self._engine, start)
        self.replica.expect(feed, validation)
        self.replica.build(feed.spec())
        self.stop = StopConsensus(self._model, self._engine)
        self._watch.begin_training()
        callbacks = rank_safe(
            given["callbacks"],
            self._engine,
            self.stop,
            self.replica.take_root_state,
            self._watch.check_epoch,
        )
        given.update(
            _NO_DATA,
            x=feed.adapter,
            class_weight=None,
            steps_per_epoch=feed.steps,
            shuffle=False,
            validation_split=0.0,
            callbacks=callbacks,
        )
        if validation:
            given.update(validation_data=(validation.adapter,), validation_steps=validation.steps)
        if durable:
            durable.arrange(given, self.stop)
        self._fitting = True
        try:
            return self._plain("fit")(**given)
        finally:
            self._fitting = False

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("_use_cached_eval_dataset"):
            self._agree_on_options()
            given = self._arguments("evaluate", args, kwargs)
            data = (given["x"], given["y"], given["sample_weight"])
            source = Source(*data, batch_size=given["batch_size"], steps=given["steps"])
            feed = make_feed(source, self.replica.options, self._engine)
            self.replica.expect(feed)
            self.replica.build(feed.spec())
            self._watch.agree_before("evaluate")
            args, kwargs = (), {**given, **_NO_DATA, "x": feed.adapter, "steps": feed.steps}
        self._evaluating = True
        try:
            return self._plain("evaluate")(*args, **kwargs)
        finally:
            self._evaluating = False

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        given = self._arguments("predict", args, kwargs)
        if self.replica.options.shard_predict and self._model.built:
            self._watch.agree_before("predict")
            return predict_together(self._plain("predict"), given, self._engine)
        return self._plain("predict")(**given)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        check_trainable(self._model)
        self._agree_on_options()
        given = self._arguments("train_on_batch", args, kwargs)
        batch = make_batch(given, self.replica.options, self._engine)
        self.replica.expect_batch(divided=batch.divided)
        if not self.replica.has_root_state:
            self.replica.build(batch.data)
            self.replica.take_root_state()
        own = self._plain("train_on_batch")(batch.share, return_dict=True)
        compute = self._plain("_get_metrics_result_or_logs")
        logs = global_result(self._model, self._engine, compute, own)
        return logs if given["return_dict"] else self._model._flatten_metrics_in_order(logs)

    def _get_metrics_result_or_logs(self, logs: Any) -> Any:
        plain = self._plain("_get_metrics_result_or_logs")
        if self._evaluating:
            return global_result(self._model, self._engine, plain, logs)
        if not self._fitting:
            return plain(logs)
        self._watch.check_supply()
        self.replica.average_local_state()
        result = global_result(self._model, self._engine, plain, logs)
        optimizer = self._model.optimizer
        for leaf in leaf_optimizers(optimizer)[:1] if optimizer else ():
            rate = effective_learning_rate(leaf, self.replica.scale)
            result["effective_learning_rate"] = rate
        return result

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        self._on_root("save", filepath, *args, **kwargs)

    def save_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        self._on_root("save_weights", filepath, *args, **kwargs)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        self._on_root("export", filepath, *args, **kwargs)

    def _on_root(self, name: str, filepath: Any, *args: Any, **kwargs: Any) -> None:
        save = partial(save_whole, self._plain(name), filepath, *args, **kwargs)
        self._engine.after_root(save, f"{name} {filepath}")

    def _arguments(self, name: str, args: Any, kwargs: Any) -> dict[str, Any]:
        """The arguments by name, defaults included; on the root alone they let Keras speak."""
        bound = inspect.signature(self._plain(name)).bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        given |= given.pop("kwargs", {})
        if not self._engine.is_root and "verbose" in given:
            given["verbose"] = 0
        return given


# What belongs to data that a DataAdapter now holds.
_NO_DATA = {"y": None, "sample_weight": None, "batch_size": None}
