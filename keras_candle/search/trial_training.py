"""One trial's training: where its weights begin, how long it lasts, when it is given up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner import errors

from keras_candle.engine.base import Engine
from keras_candle.search.architecture.inheritance import inherit
from keras_candle.search.halving import EPOCHS, INITIAL_EPOCH, PARENT
from keras_candle.search.hyperparameters import INHERITS
from keras_candle.search.learning_curve import should_stop
from keras_candle.search.measurement import give_memory_back
from keras_candle.search.options import parts_of


class TrialTraining(keras_tuner.Tuner):  # type: ignore[misc]
    """Keras Tuner's training of a trial on one group of ranks, whose engine is `engine`.

    A promoted trial goes on from the last weights and optimizer of the one before, one that
    inherits begins with another's weights, and one that will hardly win is stopped.
    """

    engine: Engine
    _model: Any = None
    _curve: list[float]
    _epochs = 1

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """Build, train and measure; see `keras_tuner.Tuner.run_trial`."""
        values = trial.hyperparameters.values
        if EPOCHS in values:
            kwargs.update(epochs=values[EPOCHS], initial_epoch=values[INITIAL_EPOCH])
        self._curve = []
        self._epochs = kwargs.get("epochs", 1)
        return super().run_trial(trial, *args, **kwargs)

    def _try_build(self, hp: Any) -> Any:
        self._model = None
        give_memory_back()
        model = self._build_hypermodel(hp)
        if not isinstance(model, keras.Model):
            raise errors.FatalTypeError(
                f"The hypermodel returned {model!r}, expected a keras.Model that is compiled."
            )
        size = model.count_params() if model.built else 0
        if self.max_model_size and size > self.max_model_size:
            raise errors.FailedTrialError(
                f"The model has {size} parameters, at most {self.max_model_size} were asked for."
            )
        self._model = model
        return model

    def load_model(self, trial: Any) -> Any:
        """The trained model of a trial, at its best epoch."""
        model = self._try_build(trial.hyperparameters)
        self._build(model, trial.trial_id)
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self._get_checkpoint_fname(trial.trial_id))
        return model

    def _build_and_fit_model(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        results = super()._build_and_fit_model(trial, *args, **kwargs)
        if EPOCHS in trial.hyperparameters.values:
            self._model.save_weights(self._last_weights(trial.trial_id))
        return results

    def _build_hypermodel(self, hp: Any) -> Any:
        model = super()._build_hypermodel(hp)
        parent, model_of = hp.values.get(PARENT), hp.values.get(INHERITS)
        if parent is not None:
            self._build(model, parent)
            model.optimizer.build(model.trainable_variables)
            model.load_weights(self._last_weights(parent))
        elif model_of is not None:
            self._build(model, model_of)
            inherit(model, self._get_checkpoint_fname(model_of))
        return model

    def _build(self, model: Any, like: str) -> None:
        if not model.built:
            described = Path(self._get_build_config_fname(like)).read_text()
            model.build_from_config(json.loads(described))

    def _last_weights(self, trial_id: str) -> str:
        return str(Path(self.get_trial_dir(trial_id)) / "last.weights.h5")

    def on_epoch_end(
        self,
        trial: Any,  # noqa: ARG002 - Keras Tuner's signature
        model: Any,
        epoch: int,
        logs: Any = None,
    ) -> None:
        """Keras Tuner's hook: a trial that will hardly win is stopped, where that is asked for."""
        if not self.oracle.options.stop_hopeless:
            return
        objective = parts_of(self.oracle.objective)[0]
        sign = -1.0 if objective.direction == "max" else 1.0
        self._curve.append(sign * float((logs or {}).get(objective.name, "nan")))
        best = self.oracle.best_so_far() if self.engine.is_root else None
        if (best := self.engine.broadcast(best)) is None:
            return
        first = epoch + 1 - len(self._curve)
        epochs = [first + i + 1 for i in range(len(self._curve))]
        if should_stop(epochs, self._curve, self._epochs, best):
            model.stop_training = True

    def _configure_tensorboard_dir(self, callbacks: Any, trial: Any, execution: int = 0) -> None:
        # Keras Tuner's needs the package tensorboard, also where nobody uses it.
        if any(type(each).__name__ == "TensorBoard" for each in callbacks):
            super()._configure_tensorboard_dir(callbacks, trial, execution)
