"""Data whose place cannot be found again for sure: refused before the first step, or said."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_candle as candle
from keras_candle.checkpoints.folder import CheckpointFolder
from tests.callback import cases
from tests.callback.training_job import KilledError, Killer

X = np.arange(48, dtype="float32").reshape(16, 3) / 48


def rows():
    return tf.data.Dataset.from_tensor_slices((X, X[:, :1]))


def repeated(dataset):
    return {"x": dataset.batch(4), "epochs": 2}


def endless():
    for _ in itertools.count():
        yield X[:4], X[:4, :1]


def in_three_steps(x, **more):
    return {"x": x, "steps_per_epoch": 3, "epochs": 2, **more}


def draws(x, y):
    return x + tf.random.uniform([], seed=5), y


class Batches(keras.utils.PyDataset):
    def __init__(self, **workers):
        super().__init__(**workers)
        self.rng = np.random.default_rng(1)

    def __len__(self):
        return 4

    def rows(self, number):
        return X[4 * number : 4 * number + 4], X[4 * number : 4 * number + 4, :1]


class Drawing(Batches):
    def __getitem__(self, number):
        x, y = self.rows(number)
        return self.augmented(x), y

    def augmented(self, x):
        return x + self.rng.normal(size=x.shape).astype("float32")


class DrawingGlobally(Batches):
    def __getitem__(self, number):
        x, y = self.rows(number)
        return x + np.random.normal(), y


class Reordering(Batches):
    order = (0, 1, 2, 3)

    def __getitem__(self, number):
        return self.rows(self.order[number])

    def on_epoch_end(self):
        self.order = tuple(self.rng.permutation(4).tolist())


class DrawingByNumber(Batches):
    def __getitem__(self, number):
        x, y = self.rows(number)
        return x + np.random.default_rng((1, number)).normal(size=x.shape).astype("float32"), y


def batches(kind, **workers):
    return {"x": kind(**workers), "epochs": 2}


def validated(kind):
    data = {"x": X, "y": X[:, :1], "batch_size": 4, "epochs": 2}
    return {**data, "validation_data": kind()}


INEXACT = {
    "Drawing.__getitem__ draws random numbers in 2 workers": lambda: batches(Drawing, workers=2),
    "DrawingGlobally.__getitem__ draws": lambda: batches(DrawingGlobally, workers=2),
    "the validation data, Drawing, draw": lambda: validated(Drawing),
    "the validation data, Reordering, draw": lambda: validated(Reordering),
    "a generator": lambda: in_three_steps(endless()),
    "draws without a seed": lambda: repeated(rows().shuffle(16)),
    "within a pass": lambda: in_three_steps(X, y=X[:, :1], batch_size=3),
}
EXACT = {
    "arrays": lambda: {"x": X, "y": X[:, :1], "batch_size": 4, "epochs": 2},
    "tf.data": lambda: repeated(rows().shuffle(16, seed=3).map(draws)),
    "one worker": lambda: batches(Drawing),
    "workers that do not draw": lambda: batches(Reordering, workers=2),
    "workers that draw by number": lambda: batches(DrawingByNumber, workers=2),
    "validation by number": lambda: validated(DrawingByNumber),
}


@pytest.fixture(autouse=True)
def _unseeded():
    tf.random.set_seed(None)


def fit(run, data, kill=None, every_steps=1, **how):
    """A training that is begun or gone on with; the loss of each of its epochs."""
    cases.forget_fits()
    model = cases.small_model()
    model.set_weights([np.ones((3, 1)), np.zeros(1)])
    durable = candle.CandleCallback(run, candle.Checkpoint(every_steps=every_steps), **how)
    callbacks = [durable, Killer(kill)] if kill else [durable]
    try:
        return model.fit(**data, verbose=0, shuffle=False, callbacks=callbacks).history["loss"]
    except KilledError:
        assert kill


@pytest.mark.parametrize("what", INEXACT)
def test_it_is_refused_and_the_checkpoint_stays_or_it_is_said_once(tmp_path, capsys, what):
    fit(tmp_path, INEXACT[what](), kill=6)
    steps = CheckpointFolder(tmp_path / "checkpoints").steps()
    assert capsys.readouterr().err == ""
    with pytest.raises(candle.CheckpointError, match=f"{what}.*inexact_resume='skip'"):
        fit(tmp_path, INEXACT[what](), inexact_resume="refuse")
    assert CheckpointFolder(tmp_path / "checkpoints").steps() == steps
    assert len(fit(tmp_path, INEXACT[what]())) == 2
    said = capsys.readouterr().err
    assert said.count("inexact_resume='refuse' makes this an error") == 1


@pytest.mark.parametrize("name", EXACT)
def test_what_is_not_refused_goes_on_to_the_bit(tmp_path, name):
    whole = fit(tmp_path / "whole", EXACT[name]())
    fit(tmp_path / "parts", EXACT[name](), kill=7)
    assert fit(tmp_path / "parts", EXACT[name](), inexact_resume="refuse") == whole


def test_where_a_pass_begins_an_order_without_a_seed_has_no_place_to_lose(tmp_path):
    data = repeated(rows().shuffle(16))
    fit(tmp_path, data, kill=6, every_steps=4)
    assert len(fit(tmp_path, data, every_steps=4, inexact_resume="refuse")) == 2


def test_a_training_that_has_ended_reads_nothing(tmp_path, capsys):
    fit(tmp_path, in_three_steps(endless()))
    fit(tmp_path, in_three_steps(endless()), inexact_resume="refuse")
    assert "inexact_resume" not in capsys.readouterr().err


def refused(run):
    fit(run, in_three_steps(endless()), kill=3)
    fit(run, in_three_steps(endless()), inexact_resume="refuse")


def test_every_rank_refuses(ranks, tmp_path):
    for error in ranks(2).errors(refused, run=tmp_path):
        assert "CheckpointError" in error
        assert "a generator" in error


def test_a_choice_that_is_none(tmp_path):
    with pytest.raises(candle.CandleError, match="inexact_resume='stop', expected one of 'skip', "):
        candle.CandleCallback(tmp_path, inexact_resume="stop")


class Drawn(keras.layers.Layer):
    """Keeps an array and a number that it draws when it is made."""

    def __init__(self, seed):
        super().__init__()
        random = np.random.default_rng(seed)
        self.noise, self.scale = random.normal(size=3).astype("float32"), float(random.normal())

    def call(self, x):
        return self.scale * x + self.noise


def fit_drawn(run, seed, kill=None, **how):
    cases.forget_fits()
    model = keras.Sequential([keras.Input((3,)), Drawn(seed), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    durable = candle.CandleCallback(run, candle.Checkpoint(every_steps=1), **how)
    callbacks = [durable, Killer(kill)] if kill else [durable]
    try:
        candle.scale(model).fit(X, X[:, :1], batch_size=4, verbose=0, callbacks=callbacks)
    except KilledError:
        assert kill


def test_constants_that_a_layer_has_drawn_anew_are_named(tmp_path, capsys):
    fit_drawn(tmp_path, 1, kill=2)
    fit_drawn(tmp_path, 1, kill=3, inexact_resume="refuse")
    capsys.readouterr()
    with pytest.raises(candle.CheckpointError, match=r"its state of noise of Drawn 'drawn"):
        fit_drawn(tmp_path, 2, inexact_resume="refuse")
    fit_drawn(tmp_path, 2)
    said = capsys.readouterr().err
    assert "noise of Drawn 'drawn" in said
    assert "scale of Drawn 'drawn" in said
    assert said.count("(a constant with other values)") == 2


def drawn_anew(run):
    fit_drawn(run, 1, kill=2)
    fit_drawn(run, 2, inexact_resume="refuse")


def test_every_rank_refuses_constants_that_are_drawn_anew(ranks, tmp_path):
    for error in ranks(2).errors(drawn_anew, run=tmp_path):
        assert "CheckpointError" in error
        assert "noise of Drawn 'drawn" in error
