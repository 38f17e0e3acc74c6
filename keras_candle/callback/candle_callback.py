"""CandleCallback: checkpoints and exact resume for `fit`."""

from __future__ import annotations

import contextlib
import inspect
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from keras_candle.callback.fit_session import FitSession
from keras_candle.callback.tracker_hook import TrackerHook
from keras_candle.engine.base import Engine
from keras_candle.engine.single import SingleEngine
from keras_candle.errors import CandleError
from keras_candle.launcher_messages import work
from keras_candle.resume.checkpoint_schedule import Checkpoint, Intervals, SaveLimits, check_choice
from keras_candle.resume.inexact_resume import INEXACT_RESUME
from keras_candle.resume.restore import Resumption
from keras_candle.resume.run_session import RunSession, config_of, trial_of
from keras_candle.trackers.base import Tracker, check_trackers
from keras_candle.training.fit_call import (
    FitCall,
    ResumableFit,
    find_fit_wrapper,
    make_data_resumable,
)
from keras_candle.training.keras_methods import trainer_of
from keras_candle.training.options import check_guard

_RESUME = ("auto", "required", "never")


class CandleCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Takes checkpoints of `fit` and resumes it exactly after a kill, a stop or a failure.

    A resumed training ends as one without interruption. Nothing is opened before `fit`. The
    position in the list of callbacks does not matter, the object can be copied, and one run
    directory serves all fits of a script, one after the other. In a search of Keras Tuner each
    trial has its own run directory in this one, `trial_ID`.

    Args:
        run_directory: the directory of the run's checkpoints and journal.
        checkpoint: when checkpoints are taken and which are kept, see `Checkpoint`.
        resume: "auto": resume from the newest whole checkpoint, begin where there is none.
            "required": an error where there is none. "never": begin, and set existing
            checkpoints aside.
        trackers: where each epoch's metrics go: "csv" (`log.csv` in the run directory),
            "tensorboard", "wandb", "mlflow", or `candle.Tracker` objects of your own. A tracker
            that fails or hangs is reported once, and stops nothing.
        walltime: time limit of the job: seconds from its start, or "auto" to ask Slurm, PBS or
            LSF. The training saves and ends with exit code 75 in time, by the measured times of
            its steps, evaluations and checkpoints. None: no limit.
        stall_timeout: when no step, evaluation batch or epoch ends on a rank for this many
            seconds, a report names the rank with its last step, its last collective and the
            stacks of all its threads, and the job ends with exit code 124. "auto": 600 on several
            ranks, None on one. A node that is not heard for 60 seconds ends the job in the same
            way, whatever the timeout is. None: no watchdog.
        guard: how often a scaled model's ranks compare their state, to name the first variable
            that differs: True for the setting of `@candle.scalable(guard=)` (on by default), False
            for never, a number for every that many steps too.
        inexact_resume: what to do where a resumed training may differ from one without a stop:
            data whose position cannot be restored with certainty (a generator or a loader, a
            `tf.data.Dataset` that draws without a seed or runs Python code, a PyDataset that draws
            in several workers, a pass that has to begin anew), or a state of callbacks or of a
            PyDataset that is not saved, such as an open file or the state of validation data.
            "skip": continue, with one warning. "refuse": an error before the first step.
        walltime_reserve_s: seconds between the last checkpoint and the limit, for the job to end.
            None: 5, or twice the longest of the last three ends where `candle run` has measured
            them, and 0.01 for each further rank.
        inexact_data: the former name of `inexact_resume`.

    Raises:
        CandleError: for an unknown value; from `fit`, for a tracker whose package is missing.
        CheckpointError: from `fit`, before its first step: the directory cannot be written or
            belongs to a run that has not ended, a checkpoint is of another model, optimizer or
            other data, or cannot be resumed as `inexact_resume` requires; later: a checkpoint
            cannot be written.

    Example:
        >>> import tempfile
        >>> import keras
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> with tempfile.TemporaryDirectory() as runs:
        ...     durable = CandleCallback(f"{runs}/first")
        ...     data = np.ones((8, 3)), np.ones((8, 1))
        ...     history = model.fit(*data, epochs=2, verbose=0, callbacks=[durable])
        ...     sorted(os.listdir(f"{runs}/first/checkpoints"))
        ['last', 'step-00000001', 'step-00000002']
    """

    # Not an argument: only tests change it.
    intervals = Intervals()

    def __init__(  # noqa: PLR0913 - the options are independent of each other
        self,
        run_directory: str | os.PathLike[str],
        checkpoint: Checkpoint | None = None,
        resume: str = "auto",
        trackers: str | Tracker | Sequence[str | Tracker] = ("csv",),
        walltime: float | str | None = None,
        stall_timeout: float | str | None = "auto",
        guard: bool | int = True,
        *,
        inexact_resume: str = "skip",
        walltime_reserve_s: float | None = None,
        inexact_data: str | None = None,
    ) -> None:
        super().__init__()
        self.run_directory = Path(run_directory)
        self.checkpoint = Checkpoint() if checkpoint is None else checkpoint
        if not isinstance(self.checkpoint, Checkpoint):
            raise CandleError(f"checkpoint={checkpoint!r}, expected a candle.Checkpoint.")
        check_choice("resume", resume, _RESUME)
        if inexact_data is not None:
            _warn_of_old_name()
            inexact_resume = inexact_data
        check_choice("inexact_resume", inexact_resume, INEXACT_RESUME)
        self.resume, self.inexact_resume = resume, inexact_resume
        self.trackers = check_trackers(trackers)
        self.limits = SaveLimits(walltime, stall_timeout, walltime_reserve_s)
        self.guard = check_guard(guard)

    def run_fit(
        self, model: Any, call: FitCall, fit: Callable[[FitCall, ResumableFit], Any]
    ) -> Any:
        """Run `fit` with checkpoints, see `keras_candle.training.fit_call.FitWrapper`."""
        trainer = trainer_of(model)
        engine = SingleEngine() if trainer is None else trainer.engine
        engine.agree("the arguments of CandleCallback", self._of_all_ranks(), CandleError)
        # From root: a name may hold the time, and the remaining ranks may have no TunerCallback.
        directory, trial = engine.on_root(
            lambda: (self.run_directory, trial_of(call["callbacks"])), CandleError
        )
        run = RunSession(directory, engine)
        if trial:
            run = RunSession(trial.directory(directory), engine, trial.identity, directory)
        run.open()
        try:
            tracking = TrackerHook(run, self.trackers, trial)
            state = run.find(self.resume)
            config = self._config(trainer, engine, call)
            run.configure(config)
            resumption = Resumption(run, model, state, self.inexact_resume) if state else None
            session = FitSession(
                run,
                model,
                self.checkpoint,
                self.limits,
                self.intervals,
                resumption,
                self.inexact_resume,
            )
            comparing = trainer.comparing(self.guard) if trainer else contextlib.nullcontext()
            with tracking.during(config, state, self.resume):
                try:
                    with comparing:
                        return fit(call, session)
                finally:
                    session.close()
        finally:
            run.close()

    def _of_all_ranks(self) -> dict[str, Any]:
        """Return the arguments that decide which collectives are called, and when."""
        return {
            "checkpoint": self.checkpoint,
            "resume": self.resume,
            **asdict(self.limits),
            "guard": self.guard,
            "inexact_resume": self.inexact_resume,
        }

    def _config(self, trainer: Any, engine: Engine, call: FitCall) -> str:
        arguments = {
            "run_directory": str(self.run_directory),
            "checkpoint": asdict(self.checkpoint),
            "resume": self.resume,
            "trackers": [each if isinstance(each, str) else type(each) for each in self.trackers],
            **asdict(self.limits),
            "guard": self.guard,
            "inexact_resume": self.inexact_resume,
        }
        options = None if trainer is None else trainer.options
        return config_of(arguments, options, engine, call)

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Raise an error where `fit` was called without the fit session."""
        if not getattr(self.model, "_candle_is_durable", False):
            raise CandleError(
                "CandleCallback was bypassed by this fit, so nothing would be saved. Call fit "
                "of a keras.Model with the callback in the list callbacks=[...]."
            )


def _warn_of_old_name() -> None:
    # Python shows a DeprecationWarning once per line of the user's code.
    warnings.warn(
        "CandleCallback(inexact_data=...) is now named inexact_resume=..., since it concerns "
        "callbacks too. Rename the argument; the old name will be removed.",
        DeprecationWarning,
        stacklevel=3,
    )


def fit(plain: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
    """Call `keras.Model.fit` within the CandleCallback among its callbacks, where there is one.

    Args:
        plain: `keras.Model.fit`.
        model: the model.
        *args: arguments of `fit`.
        **kwargs: arguments of `fit`.
    """
    bound = inspect.signature(plain).bind(model, *args, **kwargs)
    wrapper = find_fit_wrapper(bound.arguments.get("callbacks"))
    if wrapper is None and not getattr(model, "_candle_is_durable", False):
        work.begin(can_resume=False)
    if wrapper is None or trainer_of(model) is not None:
        return plain(model, *args, **kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    del arguments["self"]

    def train(call: FitCall, resumable: ResumableFit) -> Any:
        call = resumable.before_fit(make_data_resumable(call, resumable.start), None)
        return plain(model, **call)

    return wrapper.run_fit(model, FitCall(arguments), train)
