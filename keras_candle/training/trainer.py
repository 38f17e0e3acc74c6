"""The trainer: runs `fit`, `evaluate`, `predict` and `train_on_batch` of a model on N ranks.

It is called where the program reaches Keras's own method, also through a subclass that overrides
it. The model's class, and with it saving and pickling, stays as it is.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from types import MethodType
from typing import Any

import keras

from keras_candle import backend
from keras_candle.data.input_data import InputData
from keras_candle.data.pydataset import PyDatasetShard
from keras_candle.data.sharded_input import (
    ShardedInput,
    held_out_of,
    make_sharded_input,
    make_sharded_inputs,
)
from keras_candle.engine.base import Engine
from keras_candle.engine.consensus import StopConsensus, succeed_on_all
from keras_candle.errors import CandleError
from keras_candle.keras_private.contract import check_private_names
from keras_candle.keras_private.models import (
    METRICS_RESULT,
    KerasTrainer,
    flatten_metrics,
    is_evaluation_of_fit,
)
from keras_candle.training.divergence import DivergenceChecks
from keras_candle.training.fit_call import FitCall, FitWrapper, ResumableFit, find_fit_wrapper
from keras_candle.training.fit_chain import Place
from keras_candle.training.gradients import (
    adds_up_rows,
    leaf_optimizers,
    outermost_optimizers,
    sum_slices,
    transform_gradients,
)
from keras_candle.training.keras_methods import call_trainers, trainer_of, unscaled
from keras_candle.training.learning_rate import LearningRateScale, effective_learning_rate
from keras_candle.training.losses import check_reductions
from keras_candle.training.metrics import global_result
from keras_candle.training.options import ScalingOptions
from keras_candle.training.prediction import predict_together
from keras_candle.training.replica import Replica
from keras_candle.training.shared_state import check_stateless
from keras_candle.training.step_chain import TrainFunction, chain_of
from keras_candle.training.train_step import make_batch, why_not_split
from keras_candle.training.user_callbacks import in_writing_callback, rank_safe

# Methods replaced on the model's instance; `keras_methods` replaces `fit` and its like.
ON_INSTANCE = (
    "compile",
    "export",
    "make_train_function",
    "save",
    "save_weights",
    METRICS_RESULT,
)
Method = Callable[..., Any]


def scale_model(model: Any, options: ScalingOptions, engine: Engine) -> Any:
    """Make a model train on N ranks; on one rank it stays as it is, if `options` do not change it.

    Args:
        model: a keras model; a second call changes nothing.
        options: the user's options.
        engine: connects the ranks.

    Returns:
        The model.

    Raises:
        CandleError: when the installed Keras lacks a private name that keras_candle uses.
        EngineError: when Keras runs on another backend than ours, or divides the work itself.
    """
    if engine.size > 1 and trainer_of(model) is None:
        check_private_names()
        backend.current().check(model)
        call_trainers()
        Trainer(Replica(model, options, engine))
        unscaled.print_all(engine)
    elif options.sum_embedding_slices and engine.size == 1:
        _sum_slices_alone(model)
    return model


def _check_trainable(model: Any) -> None:
    if not model.compiled:
        raise CandleError(
            "The model is not compiled: call model.compile(...) in the function that builds it, "
            "or before fit."
        )
    check_reductions(model)


def _sum_slices_alone(model: Any) -> None:
    """Hook the optimizers of a model on one rank, now and whenever it is compiled."""
    plain = model.compile

    def compile_and_hook(*args: Any, **kwargs: Any) -> None:
        plain(*args, **kwargs)
        hook()

    def hook() -> None:
        for optimizer in outermost_optimizers(model):
            if not adds_up_rows(optimizer):
                transform_gradients(optimizer, sum_slices)

    model.compile = compile_and_hook
    hook()


class Trainer:
    """The replaced methods of one model.

    Attributes:
        replica: the model, its options and its engine.
        stop: the ranks' consensus on stopping the current training.
    """

    def __init__(self, replica: Replica) -> None:
        model = replica.model
        self.replica, self._model, self._engine = replica, model, replica.engine
        self._checks = DivergenceChecks(replica)
        self.stop = StopConsensus(model, self._engine)
        self._results_as_variables: dict[str, Any] = {}
        self._running = ""  # "fit" or "evaluate", the innermost
        self._reported_xla = self._agreed = False
        # Bypasses Keras's tracking of attributes, which looks for layers and variables.
        object.__setattr__(model, "_candle_trainer", self)
        object.__setattr__(model, "__deepcopy__", self._copy)
        for name in ON_INSTANCE:
            setattr(model, name, getattr(self, name))
        self._chain = chain_of(model)
        self._chain.take()
        model.test_function = None
        self._chain.put(Place.GUARD, self._together)
        replica.hook()

    @property
    def engine(self) -> Engine:
        """The engine of the ranks that train the model."""
        return self._engine

    @property
    def options(self) -> ScalingOptions:
        """The options of `scalable` or `scale`."""
        return self.replica.options

    @property
    def scale(self) -> LearningRateScale:
        """The factor of the learning rate and the position of its schedule."""
        return self.replica.scale

    def build(self, batch: Any) -> None:
        """Create the model's variables from the tensor specs of a batch."""
        self.replica.build(batch)

    @contextmanager
    def comparing(self, guard: bool | int) -> Iterator[None]:
        """Replace the guard option by a CandleCallback's inside a `with` block.

        Args:
            guard: see `ScalingOptions`. True keeps an interval that the model's options have.
        """
        before = self.replica.options
        if not (guard is True and before.guard):
            self.replica.options = replace(before, guard=guard)
        try:
            yield
        finally:
            self.replica.options = before

    def _plain(self, name: str) -> Any:
        """A method of the model's class, looked up at each call: a program may replace it there."""
        return MethodType(getattr(type(self._model), name), self._model)

    def _copy(self, memo: dict[int, Any]) -> Any:
        """The model's `__deepcopy__`: Keras's plain copy, scaled as this model is."""
        object.__delattr__(self._model, "__deepcopy__")
        try:
            plain = copy.deepcopy(self._model, memo)
        finally:
            object.__setattr__(self._model, "__deepcopy__", self._copy)
        return scale_model(plain, self.replica.options, self._engine)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        self._plain("compile")(*args, **kwargs)
        self.replica.forget_functions()
        self.replica.hook()

    def make_train_function(self, *args: Any, **kwargs: Any) -> Any:
        self.replica.hook()
        asked = self._model.jit_compile
        if not backend.current().jit_has_collectives:
            if asked:
                self._split_for_xla()
            self._model.jit_compile = False
        try:
            self._plain("make_train_function")(*args, **kwargs)
        finally:
            self._model.jit_compile = asked
        self._chain.install()

    def _together(self, train: TrainFunction, iterator: Any) -> Any:
        """Call a train function, then compare the ranks and let no rank stop alone."""
        logs = train(iterator)
        self._checks.after_step()
        self.stop.defer_request()
        return logs

    def _split_for_xla(self) -> None:
        obstacle = why_not_split(self._model)
        self.replica.step.split_for_xla = obstacle is None
        if obstacle and not self._reported_xla:
            self._reported_xla = True
            self._engine.print_on_root(
                f"jit_compile: the training step runs without XLA, since {obstacle} and XLA has no "
                "collectives; evaluate and predict keep it."
            )

    def fit(self, plain: Method, *args: Any, **kwargs: Any) -> Any:
        succeed_on_all(partial(_check_trainable, self._model), self._engine)
        call = FitCall(self._arguments("fit", args, kwargs))
        wrapper, fit = find_fit_wrapper(call["callbacks"]), partial(self._fit, plain)
        self._agree_on_options()
        self._agree_on_loop(wrapper)
        return fit(call) if wrapper is None else wrapper.run_fit(self._model, call, fit)

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
        if callable(rule):  # its address differs on each rank
            options["learning_rate_scaling"] = getattr(rule, "__qualname__", type(rule).__name__)
        self._engine.agree("the options of candle.scalable", options, CandleError)

    def _agree_on_loop(self, wrapper: FitWrapper | None) -> None:
        model = self._model
        loop = {
            "CandleCallback": "given" if wrapper is not None else "none",
            "steps_per_execution": model.steps_per_execution,
            "run_eagerly": model.run_eagerly,
        }
        self._engine.agree("how they train; every rank must train alike", loop, CandleError)

    def _fit(self, plain: Method, call: FitCall, resumable: ResumableFit | None = None) -> Any:
        with self._run("fit"):
            data, held_out = succeed_on_all(lambda: held_out_of(call), self._engine)
            x, y, sample_weight = data
            call = call.changed(
                x=x,
                y=y,
                sample_weight=sample_weight,
                validation_data=held_out,
                validation_split=0.0,
            )
            start = resumable.start if resumable else None
            training, validation = make_sharded_inputs(
                call, self.replica.options.division, self._engine, start
            )
            self._check_streams(training, validation)
            self.replica.prepare(training, validation)
            self.replica.build(training.spec())
            self.stop = StopConsensus(self._model, self._engine)
            self._checks.begin_training()
            callbacks = rank_safe(
                call["callbacks"],
                self._engine,
                self.stop,
                self.replica.take_root_state,
                self._checks.check_epoch,
            )
            call = call.changed(
                **_NO_DATA,
                x=training.adapter,
                class_weight=None,
                steps_per_epoch=training.steps,
                shuffle=False,
                callbacks=callbacks,
            )
            if validation:
                call = call.changed(
                    validation_data=(validation.adapter,), validation_steps=validation.steps
                )
            if resumable:
                call = resumable.before_fit(call, self.stop)
            with self._own_validation_data(validation, held_out):
                history = plain(**call)
            if isinstance(training.adapter, PyDatasetShard):
                training.adapter.randomness.draw_together()
            return history

    @contextmanager
    def _own_validation_data(
        self, validation: ShardedInput | None, held_out: Any
    ) -> Iterator[None]:
        """Pass the user's validation data of `fit` to an `evaluate` that overrides Keras's."""
        model = self._model
        if validation is None or type(model).evaluate is keras.Model.evaluate:
            yield
            return
        before, found = vars(model).get("evaluate"), model.evaluate
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(held_out)

        def evaluate(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("x") is validation.adapter:
                kwargs.update(x=x, y=y, sample_weight=sample_weight)
            return found(*args, **kwargs)

        object.__setattr__(model, "evaluate", evaluate)
        try:
            yield
        finally:
            object.__delattr__(model, "evaluate")
            if before is not None:
                object.__setattr__(model, "evaluate", before)

    @contextmanager
    def _run(self, what: str) -> Iterator[None]:
        before, stop, self._running = self._running, self.stop, what
        try:
            with self.replica.call():
                yield
        finally:
            self._running = before
            if before:
                self.stop = stop

    def evaluate(self, plain: Method, *args: Any, **kwargs: Any) -> Any:
        with self._run("evaluate"):
            if is_evaluation_of_fit(kwargs):
                return plain(*args, **kwargs)
            self._agree_on_options()
            given = self._arguments("evaluate", args, kwargs)
            data = (given["x"], given["y"], given["sample_weight"])
            source = InputData(*data, batch_size=given["batch_size"], steps=given["steps"])
            sharded = make_sharded_input(source, self.replica.options.division, self._engine)
            self._check_streams(sharded)
            self.replica.prepare(sharded)
            self.replica.build(sharded.spec())
            self._checks.agree_before("evaluate")
            return plain(**{**given, **_NO_DATA, "x": sharded.adapter, "steps": sharded.steps})

    def _check_streams(self, *inputs: ShardedInput | None) -> None:
        if any(each.is_divided for each in inputs if each):
            succeed_on_all(partial(check_stateless, self._model, self._engine.size), self._engine)

    def predict(self, plain: Method, *args: Any, **kwargs: Any) -> Any:
        given = self._arguments("predict", args, kwargs)
        if not self.replica.options.shard_predict:
            return plain(**given)
        take_root_state = partial(self._checks.agree_before, "predict")
        return predict_together(plain, given, self._model, self._engine, take_root_state)

    def train_on_batch(self, plain: Method, *args: Any, **kwargs: Any) -> Any:
        succeed_on_all(partial(_check_trainable, self._model), self._engine)
        self._agree_on_options()
        given = self._arguments("train_on_batch", args, kwargs)
        batch = make_batch(given, self.replica.options, self._engine)
        if batch.divided:
            succeed_on_all(partial(check_stateless, self._model, self._engine.size), self._engine)
        with self.replica.call():
            self.replica.prepare_batch(divided=batch.divided)
            if not self.replica.has_root_state:
                self.replica.build(batch.data)
                self.replica.take_root_state()
            own = plain(batch.shard, return_dict=True)
        self.replica.has_local_state = True
        compute = self._plain(METRICS_RESULT)
        logs = global_result(self._model, self._engine, compute, own)
        logs = {**{name: logs[name] for name in own if name in logs}, **logs}  # in Keras's order
        return logs if given["return_dict"] else flatten_metrics(self._model, logs)

    def _get_metrics_result_or_logs(self, logs: Any) -> Any:
        plain = self._plain(METRICS_RESULT)
        if self._running == "evaluate":
            result = global_result(self._model, self._engine, plain, logs)
            for name in self._results_as_variables.keys() & result.keys():
                self._results_as_variables[name].assign(result[name])
            return result
        if not self._running:
            return plain(logs)
        self._checks.check_supply()
        self._checks.end_steps()
        self.replica.reduce_local_state()
        result = global_result(self._model, self._engine, plain, logs)
        optimizer = self._model.optimizer
        for leaf in leaf_optimizers(optimizer)[:1] if optimizer else ():
            rate = effective_learning_rate(leaf, self.replica.scale)
            result["effective_learning_rate"] = rate
        # For a metric whose result is a variable, Keras logs the variable's value at the time when
        # callbacks read the logs: where an epoch ends with a validation, the validation's value.
        results = plain(logs).items()
        late = [name for name, value in results if isinstance(value, keras.Variable)]
        self._results_as_variables = {name: keras.Variable(result[name]) for name in late}
        return result | self._results_as_variables

    def save(self, *args: Any, **kwargs: Any) -> Any:
        return self._on_root("save", args, kwargs)

    def save_weights(self, *args: Any, **kwargs: Any) -> Any:
        return self._on_root("save_weights", args, kwargs)

    def export(self, *args: Any, **kwargs: Any) -> Any:
        return self._on_root("export", args, kwargs)

    def _on_root(self, name: str, args: Any, kwargs: Any) -> Any:
        filepath = args[0] if args else kwargs.get("filepath", "")
        save = partial(self._plain(name), *args, **kwargs)
        if in_writing_callback():
            return save()
        return self._engine.after_root(save, f"{name} {filepath}")

    def _arguments(self, name: str, args: Any, kwargs: Any) -> dict[str, Any]:
        """The arguments by name, defaults included; only the root is verbose."""
        method = getattr(KerasTrainer, name)
        bound = inspect.signature(method).bind(self._model, *args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        del given["self"]
        given |= given.pop("kwargs", {})
        if not self._engine.is_root and "verbose" in given:
            given["verbose"] = 0
        return given


# Arguments that go with x, where a DataAdapter holds them all.
_NO_DATA = {"y": None, "sample_weight": None, "batch_size": None}
