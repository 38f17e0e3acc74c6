"""Train one trial: its initial weights, its epochs, and when to stop it early."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner import errors

from keras_candle.engine.base import Engine
from keras_candle.errors import SearchError
from keras_candle.keras_private.keras_tuner import build_config_path, checkpoint_path
from keras_candle.search.halving import EPOCHS, INITIAL_EPOCH, PARENT
from keras_candle.search.hyperparameters import INHERITS
from keras_candle.search.measurement import release_memory
from keras_candle.search.nas.inheritance import inherit
from keras_candle.search.stopping import StopHopeless
from keras_candle.training.keras_methods import trainer_of


class TrialTraining(keras_tuner.Tuner):  # type: ignore[misc]
    """Keras Tuner's training of a trial on one group of ranks, whose engine is `engine`.

    A promoted trial resumes the last weights and optimizer of its parent. With `inherit_weights` a
    trial starts with its parent's weights; with `stop_hopeless` one that is unlikely to win is
    stopped.
    """

    engine: Engine
    _model: Any = None

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """Build, train and measure; see `keras_tuner.Tuner.run_trial`."""
        values = trial.hyperparameters.values
        if EPOCHS in values:
            kwargs.update(epochs=values[EPOCHS], initial_epoch=values[INITIAL_EPOCH])
        return super().run_trial(trial, *args, **kwargs)

    def _try_build(self, hp: Any) -> Any:
        self._model = None
        release_memory()
        model = self._build_hypermodel(hp)
        if not isinstance(model, keras.Model):
            raise errors.FatalTypeError(
                f"The hypermodel returned {model!r}, expected a keras.Model."
            )
        size = model.count_params() if model.built else 0
        if self.max_model_size and size > self.max_model_size:
            raise errors.FailedTrialError(
                f"The model has {size} parameters, expected at most max_model_size="
                f"{self.max_model_size}."
            )
        self._model = model
        return model

    def load_model(self, trial: Any) -> Any:
        """Return the trained model of a trial, at its best epoch."""
        model = self._try_build(trial.hyperparameters)
        self._load(model, trial.trial_id, checkpoint_path(self, trial.trial_id))
        return model

    def _build_and_fit_model(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        # Keras Tuner's own refuses a dict of several objectives.
        hp = trial.hyperparameters
        model = self._try_build(hp)
        if self.engine.size > 1:
            _check_scaled(model, self.engine.size)
        options = self.oracle.options
        if options.stop_hopeless:
            stop = StopHopeless(self.oracle.objective, self._best_so_far, options.max_epochs)
            kwargs["callbacks"] = [*kwargs.get("callbacks", ()), stop]
        results = self.hypermodel.fit(hp, model, *args, **kwargs)
        if self.engine.is_root:
            described = build_config_path(self, trial.trial_id)
            described.write_text(json.dumps(model.get_build_config()))
        if EPOCHS in hp.values:
            model.save_weights(self._last_weights(trial.trial_id))
        return results

    def _build_hypermodel(self, hp: Any) -> Any:
        model = super()._build_hypermodel(hp)
        parent, model_of = hp.values.get(PARENT), hp.values.get(INHERITS)
        if parent is not None:
            self._load(model, parent, self._last_weights(parent))
        elif model_of is not None:
            self._build(model, model_of)
            inherit(model, checkpoint_path(self, model_of))
        return model

    def _load(self, model: Any, like: str, weights: str) -> None:
        self._build(model, like)
        # A model with a custom training loop need not be compiled.
        if (optimizer := getattr(model, "optimizer", None)) is not None:
            optimizer.build(model.trainable_variables)
        model.load_weights(weights)

    def _build(self, model: Any, like: str) -> None:
        if not model.built:
            described = build_config_path(self, like).read_text()
            model.build_from_config(json.loads(described))

    def _last_weights(self, trial_id: str) -> str:
        return str(Path(self.get_trial_dir(trial_id)) / "last.weights.h5")

    def _best_so_far(self) -> float | None:
        """The best objective of all groups, on all ranks of this group."""
        best = self.oracle.best_so_far() if self.engine.is_root else None
        shared: float | None = self.engine.broadcast(best)
        return shared

    def _configure_tensorboard_dir(self, callbacks: Any, trial: Any, execution: int = 0) -> None:
        # Keras Tuner's own needs the package tensorboard even without that callback.
        if any(type(each).__name__ == "TensorBoard" for each in callbacks):
            super()._configure_tensorboard_dir(callbacks, trial, execution)


def _check_scaled(model: Any, ranks: int) -> None:
    if trainer_of(model) is None:
        raise SearchError(
            f"ranks_per_trial={ranks}, but the model {model.name!r} is not scaled: each rank would "
            "train it by itself. Build it with @candle.scalable, or leave ranks_per_trial out."
        )
