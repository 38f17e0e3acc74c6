"""The second front door: CandleCallback makes a training durable."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_candle.callback.options import Checkpoint
from keras_candle.callback.run import Run
from keras_candle.callback.session import Session
from keras_candle.engine.single import SingleEngine
from keras_candle.errors import CandleError
from keras_candle.training.durable import Durable, around_fit, take_own_data

_RESUME = ("auto", "required", "never")


class CandleCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Makes a training durable: it can be killed anywhere, started again, and ends as if not.

    Nothing is opened before `fit`. It stands anywhere in the list of callbacks, can be copied, and
    one run directory serves all fits of a script, one after the other.

    Args:
        run_directory: where the run keeps its checkpoints and its journal.
        checkpoint: when checkpoints are made and which stay, see `Checkpoint`.
        resume: "auto": go on from the newest whole checkpoint, begin where there is none.
            "required": an error where there is none. "never": begin; checkpoints that are there
            are set aside.

    Raises:
        CandleError: for an unknown value.
        CheckpointError: from `fit`, before its first step: the directory cannot be written or
            belongs to a run that has not ended, a checkpoint is of another model, optimizer or
            other data; later: a checkpoint cannot be written.

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

    def __init__(
        self,
        run_directory: str | os.PathLike[str],
        checkpoint: Checkpoint | None = None,
        resume: str = "auto",
    ) -> None:
        super().__init__()
        self.run_directory = Path(run_directory)
        self.checkpoint = Checkpoint() if checkpoint is None else checkpoint
        if not isinstance(self.checkpoint, Checkpoint):
            raise CandleError(f"checkpoint={checkpoint!r}, expected a candle.Checkpoint.")
        if resume not in _RESUME:
            raise CandleError(
                f"resume={resume!r}, expected one of {', '.join(map(repr, _RESUME))}."
            )
        self.resume = resume

    def run_fit(
        self, model: Any, given: dict[str, Any], fit: Callable[[dict[str, Any], Durable], Any]
    ) -> Any:
        """See `keras_candle.training.durable.AroundFit`."""
        trainer = getattr(model, "_candle_trainer", None)
        engine = SingleEngine() if trainer is None else trainer.replica.engine
        run = Run(self.run_directory, engine)
        run.open()
        try:
            state = run.find(self.resume)
            session = Session(run, model, self.checkpoint, state)
            try:
                return fit(given, session)
            finally:
                session.close()
        finally:
            run.close()

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Keras's hook."""
        if not getattr(self.model, "_candle_is_durable", False):
            raise CandleError(
                "fit was called past CandleCallback, so nothing would be saved. Call model.fit "
                "of a keras.Model, and give it the callback in a list."
            )


def _fit_durably(plain: Callable[..., Any]) -> Callable[..., Any]:
    """`keras.Model.fit`, which a CandleCallback among the callbacks is put around."""

    @functools.wraps(plain)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(plain).bind(self, *args, **kwargs)
        around = around_fit(bound.arguments.get("callbacks"))
        if around is None or hasattr(self, "_candle_trainer"):
            return plain(self, *args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        del given["self"]

        def train(given: dict[str, Any], durable: Durable) -> Any:
            take_own_data(given, durable.start)
            durable.arrange(given)
            return plain(self, **given)

        return around.run_fit(self, given, train)

    return fit


def _put_around_fit() -> None:
    """A callback cannot see the other callbacks and the data of the fit that it is called by.

    What Keras's own function calls is replaced, and not that function: in
    `model.fit(..., callbacks=[candle.CandleCallback(...)])` it has been looked up already when its
    arguments import this module.
    """
    fit = keras.Model.fit
    while "fn" not in fit.__code__.co_freevars and hasattr(fit, "__wrapped__"):
        fit = fit.__wrapped__
    names = fit.__code__.co_freevars
    if "fn" in names:
        called = fit.__closure__[names.index("fn")]
        called.cell_contents = _fit_durably(called.cell_contents)
    else:
        keras.Model.fit = _fit_durably(keras.Model.fit)


_put_around_fit()
