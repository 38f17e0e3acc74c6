"""A model, its callbacks and its random numbers as a checkpoint has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_candle.callback.callback_state import (
    CallbackState,
    set_shared_states,
    without_differences,
)
from keras_candle.callback.data_state import DataState
from keras_candle.callback.inexact_resume import PART_OF_A_PASS, weigh, weigh_lost
from keras_candle.callback.model_state import build_optimizers, load_model_state
from keras_candle.callback.progress import Progress
from keras_candle.callback.randomness import set_random_state
from keras_candle.callback.rank_state import set_metrics, set_rank_state
from keras_candle.callback.run import Run
from keras_candle.checkpoints.reading import read_rank
from keras_candle.engine.base import Engine
from keras_candle.errors import CheckpointError
from keras_candle.training.building import build_model
from keras_candle.training.gradients import leaf_optimizers, outermost_optimizers
from keras_candle.training.learning_rate import LearningRateScale, scale_learning_rate
from keras_candle.training.position import Position


class Resumption:
    """A fit that goes on from a checkpoint.

    Args:
        run: where the checkpoint is.
        model: what is trained.
        state: what all ranks share of the checkpoint.
        inexact_resume: see `CandleCallback`.
    """

    def __init__(self, run: Run, model: Any, state: dict[str, Any], inexact_resume: str) -> None:
        self._run, self._model, self.state = run, model, state
        self._engine, self._inexact_resume = run.engine, inexact_resume
        self._of_ranks: list[dict[str, Any]] = []

    def prepare(self, given: dict[str, Any], progress: Progress, identity: dict[str, Any]) -> None:
        """Check that it is the same training, and let it begin where it was.

        Args:
            given: the arguments of `fit`.
            progress: is set to the checkpoint's.
            identity: what `identity_of` returned for the model and data at hand.

        Raises:
            CheckpointError: when it is another one, with the first difference; when its data
            cannot be gone on with exactly, and the user does not want that.
        """
        state, model = self.state, self._model
        folder = str(self._run.folder.path_of(state["step"]))
        check_identity(folder, state["identity"], identity)
        over = state["finished"] and state["epochs"] == given["epochs"]
        if not over:
            doubts = [*(() if state["can_go_on"] else (PART_OF_A_PASS,)), *progress.adapter.doubts]
            weigh(doubts, self._inexact_resume, folder, self._engine)
        build_all(model, progress.adapter, state, folder)
        let_schedule_go_on(model, state["schedule_position"], state["schedule_iterations"])
        progress.step, progress.epoch = state["step"], state["epoch"]
        progress.passes = state["position"]["passes"]
        if state["can_go_on"]:
            progress.before_epoch = state["before_epoch"]
        given["initial_epoch"] = given["epochs"] if over else state["epoch"]
        if over:
            progress.adapter.get_tf_dataset().leave_out()
        progress.left_out = state["in_epoch"]
        left = progress.adapter.steps_left(state["position"]["taken"]) if state["in_epoch"] else 0
        batches = progress.adapter.num_batches
        if state["in_epoch"] and not given["steps_per_epoch"] and None not in (left, batches):
            # Steps of another number of ranks are others; these end when the data do.
            progress.left_out = max(batches - left, 0)

    def put_back(
        self, callbacks: Sequence[Any], callback_state: CallbackState, data: DataState
    ) -> None:
        """Take the checkpoint's state, when all callbacks have begun."""
        state, engine = self.state, self._engine
        load_model_state(self._model, self._run, state["step"])
        self._of_ranks = read_ranks(self._run, state["step"], state["ranks"])
        set_shared_states(callbacks, state["callbacks"])
        set_rank_state(self._model, [each["model"] for each in self._of_ranks], engine)
        self.put_back_metrics()
        own = self._of_ranks[engine.rank if self._same_ranks else 0]
        states = own["callbacks"]
        if not self._same_ranks:
            states = without_differences([each["callbacks"] for each in self._of_ranks])
        folder = str(self._run.folder.path_of(state["step"]))
        # A callback's set_state() may raise, on one rank.
        lost = engine.gather_results(
            lambda: {
                **callback_state.put_back(states),
                **data.put_back(
                    own["data"], within_pass=self.start.taken > 0, same_ranks=self._same_ranks
                ),
            },
            CheckpointError,
        )
        weigh_lost(lost, self._inexact_resume, folder, engine)
        set_random_state(own["random"])
        ranks = "" if self._same_ranks else f", made on {len(self._of_ranks)} ranks"
        engine.say(
            f"goes on from {self._run.folder.path_of(state['step'])} (epoch {state['epoch'] + 1}, "
            f"{state['in_epoch']} steps of it done{ranks})"
        )

    def put_back_metrics(self) -> None:
        """Take the metrics, when Keras has reset them."""
        set_metrics(self._model, [each["model"] for each in self._of_ranks], self._engine)

    @property
    def start(self) -> Position:
        """Where the data are gone on with."""
        start = Position(**self.state["position"])
        return start if self.state["can_go_on"] else replace(start, taken=0)

    @property
    def _same_ranks(self) -> bool:
        return len(self._of_ranks) == self._engine.size


def identity_of(model: Any, adapter: Any, engine: Engine) -> dict[str, Any]:
    """What must be the same for a training to go on: optimizers, and what is known of the data.

    Where each rank has data of its own, a dimension that differs by rank, such as the length that
    rows are padded to, is None.
    """
    spec = adapter.get_tf_dataset().element_spec
    data = getattr(spec, "data", spec)
    leaves = [each for each in keras.tree.flatten(data) if each is not None]
    return {
        "optimizers": [type(each).__name__ for each in outermost_optimizers(model)],
        "rows of the data": getattr(adapter, "rows", None),
        "row shapes and dtypes of the data": _common_shapes(
            [(tuple(each.shape[1:]), each.dtype.name) for each in leaves], engine
        ),
        "fingerprint of the data": getattr(adapter, "fingerprint", None),
    }


def _common_shapes(own: Sequence[tuple[tuple[int | None, ...], str]], engine: Engine) -> list[str]:
    common = []
    for of_ranks in zip(*engine.gather_objects(own), strict=False):
        lengths = [set(each) for each in zip(*(shape for shape, _ in of_ranks), strict=False)]
        shape = [each.pop() if len(each) == 1 else None for each in lengths]
        common.append(f"{shape} {of_ranks[0][1]}")
    return common


def check_identity(folder: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse to go on with something else.

    Raises:
        CheckpointError: with the first difference.
    """
    for what, value in expected.items():
        if what in found and found[what] != value:
            raise CheckpointError(
                f"{folder} was made with other {what}: {found[what]} there, {value} here. Go on "
                "with what it was made with, or say resume='never' or name another run directory."
            )


def build_all(model: Any, adapter: Any, state: dict[str, Any], folder: str) -> None:
    """Make all variables that a model had at a checkpoint, and no others.

    Raises:
        CheckpointError: when its optimizers cannot be built as they were.
    """
    spec = adapter.get_tf_dataset().element_spec
    build_model(model, getattr(spec, "data", spec))
    if state.get("format", 1) > 1:
        build_optimizers(model, state["optimizers"], folder)
        return
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)


def read_ranks(run: Run, step: int, size: int) -> list[dict[str, Any]]:
    """What is each rank's own in a checkpoint, on every rank."""
    folder = run.folder.path_of(step)
    found: list[dict[str, Any]] = run.on_root(
        lambda: [read_rank(folder, rank) for rank in range(size)]
    )
    return found


def schedule_position(model: Any) -> int:
    """Where the learning-rate schedule is, in steps of one rank."""
    scale = _scale_of(model)
    return int(scale.position(iterations_of(model)))


def let_schedule_go_on(model: Any, position: int, iterations: int) -> None:
    """Let the schedule go on where it was, although steps now count for more or less.

    To be called before the train function is made.

    Args:
        model: the model.
        position: what `schedule_position` returned.
        iterations: steps that the optimizer had taken then.
    """
    scale = _scale_of(model)
    scale.offset = position - iterations * scale.advance
    if scale.offset and not hasattr(model, "_candle_trainer"):
        object.__setattr__(model, "_candle_scale", scale)
        for optimizer in outermost_optimizers(model):
            for leaf in leaf_optimizers(optimizer):
                scale_learning_rate(leaf, scale)


def _scale_of(model: Any) -> LearningRateScale:
    trainer = getattr(model, "_candle_trainer", None)
    if trainer is not None:
        scale: LearningRateScale = trainer.replica.scale
        return scale
    return getattr(model, "_candle_scale", None) or LearningRateScale()


def iterations_of(model: Any) -> int:
    """Steps that the optimizer has taken."""
    optimizers = outermost_optimizers(model)
    return int(optimizers[0].iterations.numpy()) if optimizers else 0
