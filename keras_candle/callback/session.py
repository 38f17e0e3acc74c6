"""One fit made durable: it goes on from a checkpoint, makes new ones, and stops when told to."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_candle.callback import others, restoring
from keras_candle.callback.callback_list import DurableCallbackList
from keras_candle.callback.data_state import DataState
from keras_candle.callback.options import Checkpoint
from keras_candle.callback.progress import Progress
from keras_candle.callback.randomness import random_state, set_random_state
from keras_candle.callback.rank_state import rank_state, set_rank_state, spread_rank_states
from keras_candle.callback.run import Run
from keras_candle.callback.saving import Saving
from keras_candle.callback.signals import StopSignals
from keras_candle.errors import CheckpointError
from keras_candle.training.position import Position

EXIT_RUN_AGAIN = 75
# How often, about, the ranks ask each other whether one of them wants to stop or to save.
_ASK_EVERY_S = 0.2
_SAVE, _STOP, _FAILED, _NEXT = range(4)


class Session:
    """One fit.

    Args:
        run: its run directory, open.
        model: what is trained.
        options: when checkpoints are made.
        state: from which it goes on; None where it begins.

    Attributes:
        start: where it goes on in its data; None where it begins.
    """

    def __init__(
        self, run: Run, model: Any, options: Checkpoint, state: dict[str, Any] | None
    ) -> None:
        self._run, self._model, self._options, self._state = run, model, options, state
        self._engine = run.engine
        self._saving = Saving(run, options, model)
        self._signals = StopSignals()
        self._callbacks: Sequence[Any] = ()
        self._marks: others.Marks = []
        self._progress = Progress(None, None)
        self._epochs = 0
        self._saved_step = -1
        self._saved_s = time.monotonic()
        self._next_question = self._asked_step = 0
        self._asked_s = time.monotonic()
        self.start = Position(**state["position"]) if state else None
        self._restored: list[dict[str, Any]] = []
        self._chain = list(state["chain"]) if state else []

    def arrange(self, given: dict[str, Any]) -> None:
        """Put the session's list of callbacks into the arguments of `fit`."""
        adapter, state = given["x"], self._state
        self._epochs = given["epochs"]
        self._progress = Progress(
            adapter, given["steps_per_epoch"], step=max(self._run.ends, default=0)
        )
        self._progress.epoch = given["initial_epoch"]
        if state:
            self._go_on_with(given, state)
        self._chain.append({"step": self._progress.step, "ranks": self._engine.size})
        self._data = DataState(adapter)
        object.__setattr__(self._model, "_candle_is_durable", True)
        given["callbacks"] = DurableCallbackList(
            self,
            _listed(given["callbacks"]),
            self._model.steps_per_execution,
            add_history=True,
            add_progbar=given["verbose"] != 0,
            verbose=given["verbose"],
            epochs=given["epochs"],
            steps=given["steps_per_epoch"] or adapter.num_batches,
            model=self._model,
        )

    def _go_on_with(self, given: dict[str, Any], state: dict[str, Any]) -> None:
        progress, step = self._progress, state["step"]
        folder = str(self._run.folder.path_of(step))
        expected = restoring.identity_of(self._model, progress.adapter)
        restoring.check_identity(folder, state["identity"], expected)
        restoring.build_all(self._model, progress.adapter)
        restoring.let_schedule_go_on(
            self._model, state["schedule_position"], state["schedule_iterations"]
        )
        progress.step, progress.epoch = step, state["epoch"]
        progress.passes = state["position"]["passes"]
        over = state["finished"] and (state["epochs"] == given["epochs"])
        given["initial_epoch"] = given["epochs"] if over else state["epoch"]
        if state["in_epoch"]:
            left = progress.adapter.steps_left(state["position"]["taken"])
            whole = given["steps_per_epoch"] or progress.adapter.num_batches
            same = left is None or whole is None or bool(given["steps_per_epoch"])
            progress.left_out = state["in_epoch"] if same else max(whole - left, 0)
        self._saved_step = step
        for value, of_step in state["best"]:
            self._saving.note_best(value, of_step)

    def on_begin(self, callbacks: Sequence[Any]) -> None:
        """Before the callbacks' on_train_begin."""
        self._callbacks, self._marks = callbacks, others.marks_of(callbacks)
        if self._state:
            others.let_files_go_on(callbacks, self._state["callbacks"])

    def on_began(self) -> int:
        """After it: take the checkpoint's state."""
        self._signals.listen()
        state = self._state
        if not state:
            return 0
        restoring.load_tensors(self._model, self._run, state["step"])
        of_ranks = restoring.read_ranks(self._run, state["step"], state["ranks"])
        others.set_shared_states(self._callbacks, state["callbacks"])
        if len(of_ranks) == self._engine.size:
            own = of_ranks[self._engine.rank]
            set_rank_state(self._model, own["model"])
            others.set_own_states(self._callbacks, own["callbacks"])
        else:
            spread_rank_states(self._model, [each["model"] for each in of_ranks], self._engine)
            own = of_ranks[0]
            common = others.without_differences([each["callbacks"] for each in of_ranks])
            others.set_own_states(self._callbacks, common)
        self._data.put_back(own["data"])
        set_random_state(own["random"])
        self._restored = of_ranks
        where = f"epoch {state['epoch'] + 1}, {state['in_epoch']} steps of it done"
        self._engine.say(
            f"goes on from {self._run.folder.path_of(state['step'])} ({where})"
            + (f", made on {len(of_ranks)} ranks" if len(of_ranks) != self._engine.size else "")
        )
        self._note("resume", step=state["step"], ranks=self._engine.size)
        return self._progress.left_out

    def on_epoch(self, epoch: int) -> None:
        """Before an epoch. Keras has just reset the metrics."""
        self._progress.epoch = epoch
        self._progress.in_epoch = self._progress.left_out
        if self._progress.left_out and self._state:
            self._set_metrics()
            self._progress.left_out = 0
        self._data.begin_epoch()

    def _set_metrics(self) -> None:
        of_ranks = [each["model"] for each in self._restored]
        if len(of_ranks) == self._engine.size:
            set_rank_state(self._model, of_ranks[self._engine.rank])
        else:
            spread_rank_states(self._model, of_ranks, self._engine)

    def on_steps(self, done: int) -> None:
        """After a call of the train function."""
        progress = self._progress
        before = progress.step
        progress.advance(done)
        if self._options.due_by_steps(before, progress.step):
            self._save()
        if progress.step >= self._next_question:
            self._ask()

    def _ask(self) -> None:
        """Ask the ranks whether one of them wants to save or to stop, and do it together."""
        wishes = np.zeros(4, np.int64)
        wishes[_STOP] = self._signals.received
        if self._engine.is_root:
            every_s, now_s = self._options.every_seconds, time.monotonic()
            wishes[_SAVE] = every_s is not None and now_s - self._saved_s >= every_s
            wishes[_FAILED] = self._saving.failed
            wishes[_NEXT] = self._steps_between_questions(now_s)
        if self._engine.size > 1:
            wishes = self._engine.allreduce(wishes, "max")
            self._next_question = self._progress.step + int(wishes[_NEXT])
        if wishes[_FAILED]:
            self._check_writing()
        if wishes[_STOP]:
            self._stop(int(wishes[_STOP]))
        elif wishes[_SAVE]:
            self._save()

    def _steps_between_questions(self, now_s: float) -> int:
        steps = self._progress.step - self._asked_step
        rate = steps / max(now_s - self._asked_s, 1e-6)
        self._asked_step, self._asked_s = self._progress.step, now_s
        return max(1, min(int(rate * _ASK_EVERY_S), 2 * max(steps, 1)))

    def on_epoch_over(self, epoch: int, logs: dict[str, Any]) -> None:
        """After the callbacks' on_epoch_end."""
        self._progress.end_epoch()
        finished = epoch + 1 == self._epochs or bool(self._model.stop_training)
        values = self._values_of(logs)
        self._note("epoch", epoch=epoch + 1, step=self._progress.step, logs=values)
        due = self._options.due_by_epochs(epoch + 1)
        improves = bool(self._run.engine.broadcast(self._saving.improves(values)))
        if finished or due or improves:
            self._save(finished=finished, logs=values)
        if not finished:
            self._ask()

    def _values_of(self, logs: dict[str, Any]) -> dict[str, float]:
        """An epoch's numbers, with those that a callback has put into its logs."""
        history = self._model.history
        recorded = history.history.items() if history.epoch else ()
        last = {name: each[-1] for name, each in recorded if len(each) == len(history.epoch)}
        return {
            name: float(value) for name, value in {**last, **logs}.items() if np.ndim(value) == 0
        }

    def on_end(self) -> None:
        """After the callbacks' on_train_end."""
        self._run.on_root(self._wait_for_writing)
        self._run.end_fit(self._progress.step)

    def close(self) -> None:
        """Give back what the session holds, however the fit ended."""
        self._signals.stop_listening()
        object.__setattr__(self._model, "_candle_is_durable", False)
        if self._engine.is_root:
            self._saving.abandon()

    def _stop(self, number: int) -> None:
        """Save, and end the program with the code for "run me again"."""
        if self._saved_step != self._progress.step:
            self._save()
        self._run.on_root(self._wait_for_writing)
        name = signal.Signals(number).name
        self._note("stop", reason=name, step=self._progress.step)
        self._engine.say(
            f"{name}: saved at step {self._progress.step} in "
            f"{self._run.folder.path_of(self._progress.step)}; the same command goes on from there"
        )
        self._engine.barrier()
        raise SystemExit(EXIT_RUN_AGAIN)

    def _save(self, *, finished: bool = False, logs: dict[str, Any] | None = None) -> None:
        progress, engine = self._progress, self._engine
        own = {
            "model": rank_state(self._model, engine),
            "callbacks": others.own_states(self._callbacks, self._marks),
            "random": random_state(),
            "data": self._data.take(in_epoch=progress.in_epoch > 0),
        }
        of_ranks = engine.gather_objects(own)
        self._saved_step, self._saved_s = progress.step, time.monotonic()
        position = progress.position().to_json()
        self._run.on_root(lambda: self._write(of_ranks, position, finished, logs or {}))

    def _write(
        self,
        of_ranks: list[dict[str, Any]],
        position: dict[str, Any],
        finished: bool,
        logs: dict[str, Any],
    ) -> None:
        progress, monitor = self._progress, self._options.monitor
        if monitor in logs:
            self._saving.note_best(float(logs[monitor]), progress.step)
        iterations = restoring.iterations_of(self._model)
        state = {
            "fit": self._run.fit,
            "step": progress.step,
            "epoch": progress.epoch,
            "in_epoch": progress.in_epoch,
            "epochs": self._epochs,
            "finished": finished,
            "ends": [*self._run.ends, progress.step],
            "position": position,
            "schedule_position": restoring.schedule_position(self._model),
            "schedule_iterations": iterations,
            "ranks": self._engine.size,
            "chain": self._chain,
            "identity": restoring.identity_of(self._model, progress.adapter),
            "best": self._saving.best,
            "monitor": {name: value for name, value in logs.items() if name == monitor},
            "callbacks": others.shared_states(self._callbacks),
            "trackers": {},
            "privacy": None,
        }
        try:
            self._saving.save(progress.step, state, of_ranks, self._run.ends)
        except CheckpointError as error:
            self._tell_or_raise(error)

    def _check_writing(self) -> None:
        """Raise on every rank what went wrong behind on root, or say it."""

        def check() -> None:
            try:
                self._saving.check()
            except CheckpointError as error:
                self._tell_or_raise(error)

        self._run.on_root(check)

    def _wait_for_writing(self) -> None:
        try:
            self._saving.wait()
        except CheckpointError as error:
            self._tell_or_raise(error)

    def _tell_or_raise(self, error: CheckpointError) -> None:
        if self._options.on_error == "raise":
            raise error
        self._engine.say(f"{error} The training goes on without it.")

    def _note(self, event: str, **facts: Any) -> None:
        if self._engine.is_root:
            self._run.directory.note(event, fit=self._run.fit, **facts)


def _listed(callbacks: Any) -> list[Any]:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return list(keras.tree.flatten(callbacks))
