"""A callback that compiles the model again ends no run: it resumes as it was compiled then."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_candle as candle
from tests.callback.cases import forget_fits
from tests.callback.training_job import KilledError
from tests.resume.state_cases import fail_at

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")


class OwnOptimizer(keras.optimizers.SGD):
    pass


def own_loss(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


class OwnCompile(keras.Sequential):
    def compile(self, optimizer, loss):
        super().compile(optimizer, loss)


ARGUMENTS = {
    "strings": lambda: {"optimizer": "adam", "loss": "mse", "metrics": ["mae"]},
    "another optimizer": lambda: {"optimizer": OwnOptimizer(0.1, momentum=0.5), "loss": own_loss},
    "a schedule": lambda: {
        "optimizer": keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 40)),
        "loss": own_loss,
    },
}


class Unfreeze(keras.callbacks.Callback):
    """Trains all layers from an epoch on."""

    def __init__(self, arguments, at=1):
        super().__init__()
        self._new, self._at = arguments, at

    def get_state(self):
        return {}

    def set_state(self, state):
        pass

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._at:
            self.model.layers[0].trainable = True
            self.model.compile(**self._new())
            self.model.make_train_function(force=True)


def train(run, arguments, *callbacks, kind=keras.Sequential):
    """Trains a model whose first layer is frozen in the first epoch."""
    forget_fits()
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(4, "tanh"), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
    model = kind([keras.Input((3,)), *layers])
    model.layers[0].trainable = False
    loss = "mse" if arguments == "strings" else own_loss
    model.compile(keras.optimizers.SGD(0.1), loss)
    model = candle.scale(model, batch="global", learning_rate_scaling=None)
    checkpoint = candle.Checkpoint(every_steps=1)
    durable = candle.CandleCallback(run, checkpoint, trackers=(), resume="auto")
    unfreeze = Unfreeze(ARGUMENTS[arguments])
    data = {"x": X, "y": X[:, :1], "batch_size": 4}
    history = model.fit(
        **data, epochs=4, verbose=0, callbacks=[unfreeze, durable, *callbacks]
    ).history
    variables = [*model.variables, *model.optimizer.variables]
    values = [keras.ops.convert_to_numpy(each).tolist() for each in variables]
    return repr((values, history, [layer.trainable for layer in model.layers]))


def is_the_same(folder, arguments):
    """Whether a training that was killed twice after it was compiled again ends as one without."""
    whole = train(Path(folder) / "whole", arguments)
    for kill in (6, 5):
        with pytest.raises(KilledError):
            train(Path(folder) / "parts", arguments, fail_at(kill))
    return train(Path(folder) / "parts", arguments) == whole


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_one_rank(tmp_path, arguments):
    assert is_the_same(tmp_path, arguments)


def test_two_ranks(ranks, tmp_path):
    found = ranks(2).run(is_the_same, folder=str(tmp_path), arguments="another optimizer")
    assert found == [True, True]


def test_a_compile_that_cannot_be_repeated_is_refused(tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path, "a schedule", fail_at(6), kind=OwnCompile)
    with pytest.raises(candle.CheckpointError, match="has a compile\\(\\) of its own"):
        train(tmp_path, "a schedule", kind=OwnCompile)


def test_a_model_keeps_its_own_compile_after_fit(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :1], verbose=0, callbacks=[candle.CandleCallback(tmp_path, trackers=())])
    assert "compile" not in vars(model)
