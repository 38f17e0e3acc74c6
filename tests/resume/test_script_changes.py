"""What a resumed run has of another script: refused, or said, by what it is."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_candle as candle
from keras_candle.resume import script_changes
from keras_candle.resume.script_changes import check_settings
from tests.callback import cases

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X[:, :1] * 2


def built(hidden="tanh", rate=0.01, loss="mse", metrics=(), name=None, **of_layer):
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(4, hidden, name=name, **of_layer)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.1)(dense)))
    model.compile(keras.optimizers.SGD(rate, momentum=0.5), loss, metrics=list(metrics))
    return model


def subclassed(hidden):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [keras.layers.Dense(4, hidden), keras.layers.Dense(1)]

        def call(self, inputs):
            return self.parts[1](self.parts[0](inputs))

    model = Own()
    model.compile("sgd", "mse")
    return model


def start(run, model, x=X, y=Y, epochs=1, batch_size=4, stop=None, **how):
    """A process that trains a model anew or further; it may be stopped after some steps."""
    cases.forget_fits()
    durable = candle.CandleCallback(run, candle.Checkpoint(every_steps=1), trackers=())
    callbacks = [durable]
    if stop:

        def fail(batch, logs):
            if batch + 1 == stop:
                raise ZeroDivisionError

        callbacks.append(keras.callbacks.LambdaCallback(on_train_batch_end=fail))
    data = {"x": x} if y is None else {"x": x, "y": y, "batch_size": batch_size}
    return model.fit(**data, epochs=epochs, verbose=0, callbacks=callbacks, **how)


def changed(array):
    other = array.copy()
    other[7, 0] += 1e-6
    return other


def dataset(x=X, size=4):
    return tf.data.Dataset.from_tensor_slices((x, Y)).batch(size)


REFUSED = {
    "an activation": ({"model": built("relu")}, "activation of layer . .Dense. is 'tanh' there"),
    "a regularizer": (
        {"model": built(kernel_regularizer="l2")},
        "kernel_regularizer of layer . .Dense. is None there",
    ),
    "another layer": (
        {"model": built(hidden=None, activity_regularizer="l1")},
        "of layer 2 .Dense. is",
    ),
    "the loss": ({"model": built(loss="mae")}, "another loss: it is 'mse' there, 'mae' here"),
    "one value of the rows": ({"x": changed(X)}, "other values of the data"),
    "one value of the targets": ({"y": changed(Y)}, "other values of the data"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_another_training_is_refused(tmp_path, what):
    other, words = REFUSED[what]
    start(tmp_path, built())
    with pytest.raises(candle.CheckpointError, match=words):
        start(tmp_path, **{"model": built(), "epochs": 2, **other})


def test_layers_of_a_model_that_is_a_class_are_compared(tmp_path):
    start(tmp_path, subclassed("tanh"))
    with pytest.raises(candle.CheckpointError, match="is 'tanh' there, 'relu' here"):
        start(tmp_path, subclassed("relu"), epochs=2)
    start(tmp_path, subclassed("tanh"), epochs=2)


def test_tensors_of_a_dataset_are_compared(tmp_path):
    start(tmp_path, built(), dataset(), None)
    with pytest.raises(candle.CheckpointError, match="other values of the data"):
        start(tmp_path, built(), dataset(changed(X)), None, epochs=2)
    assert len(start(tmp_path, built(), dataset(), None, epochs=2).epoch) == 2


SAID = {
    "the batch size": ({"batch_size": 8}, "batch size was 4, is 8"),
    "a metric": ({"model": built(metrics=["mae"])}, "of the metrics was"),
    "the momentum": (
        {"model": keras.models.clone_model(built())},
        "momentum of the optimizer was 0.5, is 0.25",
    ),
    "the shuffle": ({"shuffle": False}, "shuffle was True, is False"),
}


@pytest.mark.parametrize("what", SAID)
def test_a_change_on_purpose_is_said_and_the_run_resumes(tmp_path, what, capsys):
    other, words = SAID[what]
    if what == "the momentum":
        other["model"].compile(keras.optimizers.SGD(0.01, momentum=0.25), "mse")
    start(tmp_path, built())
    history = start(tmp_path, **{"model": built(), "epochs": 2, **other})
    assert history.epoch == [0, 1]
    assert words in capsys.readouterr().err


def test_a_new_learning_rate_is_used_and_one_that_a_callback_changed_stays(tmp_path, capsys):
    def halve(epoch, logs):
        model.optimizer.learning_rate = float(model.optimizer.learning_rate) / 2

    model = built(rate=0.5)
    cases.forget_fits()
    halving = keras.callbacks.LambdaCallback(on_epoch_end=halve)
    durable = candle.CandleCallback(tmp_path, trackers=())
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[halving, durable])
    same = built(rate=0.5)
    start(tmp_path, same, batch_size=None, epochs=3)
    assert float(same.optimizer.learning_rate) == 0.125
    assert "although" not in capsys.readouterr().err
    other = built(rate=0.25)
    start(tmp_path, other, batch_size=None, epochs=4)
    assert float(other.optimizer.learning_rate) == 0.25
    assert "learning_rate of the optimizer was 0.5, is 0.25" in capsys.readouterr().err


def test_what_changes_nothing_is_not_mentioned(tmp_path, capsys):
    start(tmp_path, built())
    other = built(name="renamed", kernel_initializer="zeros")
    assert start(tmp_path, other, epochs=2).epoch == [0, 1]
    assert "although" not in capsys.readouterr().err


def test_in_the_middle_of_an_epoch_rows_keep_their_place(tmp_path, capsys):
    for data in ((X, Y), (dataset(), None)):
        run = tmp_path / type(data[0]).__name__
        with pytest.raises(ZeroDivisionError):
            start(run, built(), *data, stop=2)
    start(tmp_path / "ndarray", built(), batch_size=8)
    assert "batch size was 4, is 8" in capsys.readouterr().err
    (run,) = (each for each in tmp_path.iterdir() if each.name != "ndarray")
    with pytest.raises(candle.CheckpointError, match="middle of an epoch with batches 4; 2"):
        start(run, built(), dataset(size=8), None)


def test_another_version_of_keras_is_said_and_its_new_settings_are_left_out():
    layers = [["Dense", {"units": 1, "activation": "tanh"}]]
    newer = [["Dense", {"units": 1, "activation": "tanh", "more": 2}]]
    other = [["Dense", {"units": 2, "activation": "tanh"}]]
    compare = script_changes.difference_of_layers
    one, two, three = (script_changes.json.dumps(each) for each in (layers, newer, other))
    assert compare(one, two, same_version=False) == ""
    assert "more of layer 0" in compare(one, two, same_version=True)
    assert "units of layer 0" in compare(one, three, same_version=False)


def test_connections_are_compared_and_names_are_not():
    def model(*, crossed, names):
        first, second = (keras.Input((2,), name=name) for name in names)
        pair = [second, first] if crossed else [first, second]
        return keras.Model([first, second], keras.layers.Subtract()(pair))

    describe = script_changes.describe_layers
    plain = describe(model(crossed=False, names="ab"))
    assert (
        script_changes.difference_of_layers(
            plain, describe(model(crossed=False, names="cd")), same_version=True
        )
        == ""
    )
    crossed = describe(model(crossed=True, names="ab"))
    assert "of layer 0 (Functional)" in script_changes.difference_of_layers(
        plain, crossed, same_version=True
    )


@pytest.mark.parametrize(
    ("there", "here", "changes"),
    [
        ({"batch": "global"}, {"batch": "replica"}, ["batch was 'global', is 'replica'"]),
        ({"batch": "global"}, {}, []),  # on one rank no model is scaled
        ({}, {"batch": "global"}, []),
    ],
)
def test_options_are_compared_where_both_starts_have_some(there, here, changes):
    settings = [{"compile": {}, "versions": {}, "options": each} for each in (there, here)]
    state = {"settings": settings[0], "ranks": 2}
    found = check_settings("run", state, settings[1], ranks=1, by_rows=True)
    assert found == changes
