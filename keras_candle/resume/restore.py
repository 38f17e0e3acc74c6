"""Restore a fit from a checkpoint: model, callbacks, data position and random numbers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_candle.checkpoints.reading import read_ranks
from keras_candle.data.data_cursor import DataCursor
from keras_candle.errors import CheckpointError
from keras_candle.random_state import set_global_state
from keras_candle.resume.callback_state import (
    CallbackState,
    set_shared_states,
    without_differences,
)
from keras_candle.resume.data_state import DataState, FitProgress
from keras_candle.resume.inexact_resume import (
    PART_OF_A_PASS,
    check_data_order,
    check_unrestored_state,
    doubts_of_pydatasets,
)
from keras_candle.resume.model_state import (
    build_optimizers,
    load_model_state,
    rank_of_format_1,
    set_metrics,
    set_rank_state,
)
from keras_candle.resume.recompile import repeat_compile
from keras_candle.resume.run_session import RunSession
from keras_candle.resume.script_changes import (
    check_identity,
    check_layers,
    check_settings,
    describe_layers,
    new_learning_rate,
)
from keras_candle.training.fit_call import FitCall
from keras_candle.training.gradients import leaf_optimizers, outermost_optimizers
from keras_candle.training.keras_methods import trainer_of
from keras_candle.training.layer_attributes import constants_of
from keras_candle.training.learning_rate import LearningRateScale, scale_learning_rate
from keras_candle.training.metrics import metric_variables
from keras_candle.training.replica import build_model


class Resumption:
    """Resumes a fit from a checkpoint.

    Args:
        run: session of the run directory with the checkpoint.
        model: the trained model.
        state: state of the checkpoint that all ranks share.
        inexact_resume: see `CandleCallback`.

    Attributes:
        compiles_again: whether a callback had compiled the model before the checkpoint.
    """

    def __init__(
        self, run: RunSession, model: Any, state: dict[str, Any], inexact_resume: str
    ) -> None:
        self._run, self._model, self.state = run, model, state
        self._engine, self._inexact_resume = run.engine, inexact_resume
        # This rank's own state, or root's where the number of ranks has changed; then also all.
        self._own: dict[str, Any] = {}
        self._of_ranks: list[dict[str, Any]] = []
        self._rate: float | None = None
        self._of_format_2 = state.get("format", 1) > 1
        self.compiles_again = False

    def prepare(
        self,
        call: FitCall,
        progress: FitProgress,
        identity: dict[str, Any],
        settings: dict[str, Any],
    ) -> FitCall:
        """Check that it is the same training; return the call that begins at the checkpoint.

        Args:
            call: the arguments of `fit`.
            progress: set to the checkpoint's position.
            identity: value of `identity_of` for the current model and data; gets the architecture.
            settings: value of `settings_of`.

        Raises:
            CheckpointError: when it is another training, with the first difference; when its
                data cannot be resumed exactly and `inexact_resume` is "refuse".
        """
        state, model = self.state, self._model
        folder = str(self._run.folder.path_of(state["step"]))
        self._check(folder, progress.adapter, identity, settings)
        over = state["finished"] and state["epochs"] == call["epochs"]
        if not over:
            doubts = [*(() if state["can_go_on"] else (PART_OF_A_PASS,)), *progress.adapter.doubts]
            doubts += doubts_of_pydatasets(progress.adapter, call["validation_data"])
            check_data_order(doubts, self._inexact_resume, folder, self._engine)
        if self._of_format_2:
            self.compiles_again = repeat_compile(model, state["compiled"], folder)
            if self.compiles_again:
                build(model, progress.adapter)
            build_optimizers(model, state["optimizers"], folder)
        else:
            build_compiled_optimizer(model)
        resume_schedule(model, state["schedule_position"], state["schedule_iterations"])
        progress.step, progress.epoch = state["step"], state["epoch"]
        progress.passes = state["position"]["passes"]
        if state["can_go_on"]:
            progress.before_epoch = state["before_epoch"]
        if over:
            progress.adapter.get_tf_dataset().skip_all()
        progress.steps_to_skip = state["in_epoch"]
        left = progress.adapter.steps_left(state["position"]["taken"]) if state["in_epoch"] else 0
        batches = progress.adapter.num_batches
        if state["in_epoch"] and not call["steps_per_epoch"] and None not in (left, batches):
            # Another number of ranks has other steps; the epoch ends with the data.
            progress.steps_to_skip = max(batches - left, 0)
        return call.changed(initial_epoch=call["epochs"] if over else state["epoch"])

    def _check(
        self, folder: str, adapter: Any, identity: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        """Compare with the checkpoint's training; root's result counts on all ranks."""
        state, engine = self.state, self._engine
        build(self._model, adapter)
        identity["architecture"] = describe_layers(self._model)

        def compare() -> list[str]:
            found = dict(state["identity"])
            there = found.pop("architecture", None)
            check_identity(folder, found, {k: v for k, v in identity.items() if k in found})
            if not self._of_format_2:
                return ["its layers, settings and the values of its data cannot be compared"]
            names = ("keras", "keras-candle")
            versions = [
                [each["versions"].get(n) for n in names] for each in (state["settings"], settings)
            ]
            check_layers(
                folder, there, identity["architecture"], same_version=versions[0] == versions[1]
            )
            by_rows = getattr(adapter, "rows", None) is not None
            return check_settings(folder, state, settings, ranks=engine.size, by_rows=by_rows)

        changed = self._run.on_root(compare)
        if changed:
            engine.print_on_root(f"{folder}: the run resumes although {'; '.join(changed)}.")
        if self._of_format_2:
            self._rate = engine.broadcast(new_learning_rate(state["settings"], settings))

    def restore(
        self, callbacks: Sequence[Any], callback_state: CallbackState, data: DataState
    ) -> None:
        """Restore the checkpoint's state; call it when all callbacks have begun."""
        state, engine = self.state, self._engine
        load_model_state(self._model, self._run, state["step"])
        if self._rate is not None:
            self._model.optimizer.learning_rate = self._rate
        self._read_ranks()
        own = self._own
        set_shared_states(callbacks, state["callbacks"])
        of_ranks = [each["model"] for each in self._of_ranks]
        set_rank_state(self._model, own["model"], of_ranks, engine)
        self.restore_metrics()
        states = own["callbacks"]
        if not self._same_ranks:
            states = without_differences([each["callbacks"] for each in self._of_ranks])
        folder = str(self._run.folder.path_of(state["step"]))
        # A callback's set_state() may raise, on one rank.
        lost = engine.gather_results(
            lambda: {
                **callback_state.restore(states, of_this_rank=self._same_ranks or engine.is_root),
                **data.restore(
                    own["data"], within_pass=self.start.taken > 0, same_ranks=self._same_ranks
                ),
                **(self._changed_constants() if engine.is_root else {}),
            },
            CheckpointError,
        )
        check_unrestored_state(lost, self._inexact_resume, folder, engine)
        set_global_state(own["random"])
        ranks = "" if self._same_ranks else f", made on {state['ranks']} ranks"
        engine.print_on_root(
            f"resumes from {self._run.folder.path_of(state['step'])} (epoch {state['epoch'] + 1}, "
            f"{state['in_epoch']} steps of it done{ranks})"
        )

    def _read_ranks(self) -> None:
        """Read the per-rank state on root, and send each rank what it needs of it."""
        folder, found = self._run.folder.path_of(self.state["step"]), list[dict[str, Any]]()
        self._run.on_root(lambda: found.extend(read_ranks(folder, range(self.state["ranks"]))))
        if self._same_ranks:
            self._own = self._current(self._engine.scatter(found))
        else:
            self._of_ranks = [self._current(each) for each in self._engine.broadcast(found)]
            self._own = self._of_ranks[0]

    def _current(self, own: dict[str, Any]) -> dict[str, Any]:
        return own if self._of_format_2 else rank_of_format_1(own, self._model)

    def _changed_constants(self) -> dict[str, str]:
        there, here = self.state.get("constants", {}), constants_of(self._model)
        return {
            here[place][0]: "a constant with other values"
            for place, (_, digest) in there.items()
            if place in here and here[place][1] != digest
        }

    def restore_metrics(self) -> None:
        """Restore the metrics after Keras has reset them, where they have the same shapes."""
        own, of_ranks = self._own["model"], [each["model"] for each in self._of_ranks]
        saved = [np.shape(each) for each in own["metrics"]]
        if saved == [tuple(each.shape) for each in metric_variables(self._model)]:
            set_metrics(self._model, own, of_ranks, self._engine)

    @property
    def start(self) -> DataCursor:
        """The data cursor at which the fit resumes."""
        start = DataCursor(**self.state["position"])
        return start if self.state["can_go_on"] else replace(start, taken=0)

    @property
    def _same_ranks(self) -> bool:
        return bool(self.state["ranks"] == self._engine.size)


def build(model: Any, adapter: Any) -> None:
    """Create the weights of a model that has not been built yet."""
    spec = adapter.get_tf_dataset().element_spec
    trainer = trainer_of(model)
    make = functools.partial(build_model, model) if trainer is None else trainer.build
    make(getattr(spec, "data", spec))


def build_compiled_optimizer(model: Any) -> None:
    """Create the variables of the compiled optimizer, which a state of format 1 has."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)


def schedule_position(model: Any) -> int:
    """Return the position of the learning-rate schedule, in steps of one rank."""
    scale = _scale_of(model)
    return int(scale.position(iterations_of(model)))


def resume_schedule(model: Any, position: int, iterations: int) -> None:
    """Resume the learning-rate schedule at its position, whatever the number of ranks is now.

    Call it before the train function is made.

    Args:
        model: the model.
        position: value of `schedule_position` at the checkpoint.
        iterations: steps that the optimizer had taken at the checkpoint.
    """
    scale = _scale_of(model)
    scale.offset = position - iterations * scale.advance
    trainer = trainer_of(model)
    if trainer is not None:
        trainer.replica.retrace()  # else an evaluation within the fit drops its train function
    elif scale.offset:
        object.__setattr__(model, "_candle_scale", scale)
        for optimizer in outermost_optimizers(model):
            for leaf in leaf_optimizers(optimizer):
                scale_learning_rate(leaf, scale)


def _scale_of(model: Any) -> LearningRateScale:
    trainer = trainer_of(model)
    if trainer is not None:
        scale: LearningRateScale = trainer.scale
        return scale
    return getattr(model, "_candle_scale", None) or LearningRateScale()


def iterations_of(model: Any) -> int:
    """Return the steps that the model's first optimizer has taken."""
    optimizers = outermost_optimizers(model)
    return int(optimizers[0].iterations.numpy()) if optimizers else 0
