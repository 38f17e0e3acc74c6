"""What holds for every model: nothing is changed, no pin can be left out, the floor of a format."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_candle.errors import CandleError
from keras_candle.launch.audit_precision import text
from keras_candle.precision_audit.audit import FirstTraining, audit, bench_of
from keras_candle.precision_audit.constants import ConstantSearch
from keras_candle.precision_audit.layers import FLOAT16, FLOAT32
from keras_candle.precision_audit.outputs import count, reference_of
from keras_candle.precision_audit.pins import PinSearch, minimal_subset

ROWS = np.random.default_rng(0).uniform(300, 600, (16, 6)).astype("float32")


def batch():
    return tf.constant(ROWS), tf.constant(ROWS[:, :1] / 600)


def square(x):
    return x * x


def exploding():
    """Four of its layers in a row hold more than float16 does; the bias of mix does nothing."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6, kernel_initializer="identity", name="before"),
            layers.Lambda(square, name="square"),
            layers.Dropout(0.2, name="drop"),
            layers.Dense(6, kernel_initializer="identity", name="mix"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(4, name="after"),
            layers.Dense(1, name="answer"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def values(model):
    variables = [*model.variables, *model.optimizer.variables]
    variables += [each for metric in model.metrics for each in metric.variables]
    return [np.copy(keras.ops.convert_to_numpy(each)) for each in variables]


def training(model, *batches):
    return FirstTraining(model, list(batches) or [batch()], "fit", None)


def test_an_audit_leaves_the_model_as_it_was():
    model = exploding()
    model.fit(*batch(), verbose=0)
    before, optimizer = values(model), model.optimizer
    policies = [layer.dtype_policy for layer in model.layers]
    told = audit(training(model))
    assert told["precisions"][0]["pins"]  # there was something to try
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.optimizer is optimizer
    assert [layer.dtype_policy for layer in model.layers] == policies
    assert (model.layers[2].rate, model.optimizer.loss_scale_factor) == (0.2, None)


def test_with_the_pins_nothing_is_wrong_and_without_any_of_them_something_is():
    bench = bench_of(exploding(), batch())
    exact = bench.step(FLOAT32)
    search = PinSearch(bench, FLOAT16, exact, ConstantSearch(bench))
    pins = search.find().names
    assert pins == ["square", "drop", "mix", "norm"]
    assert search._look(pins)[0] == []
    for pin in pins:
        assert search._look([each for each in pins if each != pin])[0]


def test_a_layer_that_keras_made_is_pinned_after_the_model():
    model = exploding()
    bench = bench_of(model, batch())
    pins = PinSearch(bench, FLOAT16, bench.step(FLOAT32), None).find().names
    for layer in model.layers:
        layer.dtype_policy = "mixed_float16"
    for name in pins:
        model.get_layer(name).dtype_policy = "float32"  # as the report says
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)), "mse")
    assert np.isfinite(model.fit(*batch(), verbose=0).history["loss"]).all()
    assert model.get_layer("after")(ROWS).dtype == "float16"


def test_pins_that_do_not_help_are_not_proposed():
    class Own(layers.Layer):
        def call(self, x):
            return keras.ops.cast(keras.ops.cast(x, "float16") * 1e4, "float32")

    model = keras.Sequential([keras.Input((6,)), Own(name="own"), layers.Dense(1)])
    model.compile("sgd", "mse")
    told = audit(training(model))
    # In float32 it is no other.
    assert told["float32"]["not_finite"] == ["own"]
    assert [each["pins"] for each in told["precisions"]] == [[], []]
    assert "inf or NaN in float32 too, which no pin mends: own" in text(told)


def test_a_layer_with_a_dtype_of_its_own_is_left_alone():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1, dtype="float64", name="own")])
    model.compile("sgd", "mse")
    told = audit(training(model))
    assert told["layers"] == 0
    assert [each["layer"] for each in told["float32"]["own_dtype"]] == ["own"]


def test_a_step_that_fails_in_float32_is_refused_with_its_reason():
    class Broken(layers.Layer):
        def call(self, x):
            tf.debugging.assert_positive(x - x)
            return x

    model = keras.Sequential([keras.Input((6,)), layers.Dense(6), Broken()])
    model.compile("sgd", "mse")
    with pytest.raises(CandleError, match="A step in float32 that runs eagerly fails: Invalid"):
        bench_of(model, (tf.ones((6, 6)), tf.ones((6, 6))))


@pytest.mark.parametrize("needed", [{0}, {9}, {2, 7}, {0, 4, 5, 9}, set(range(10))])
def test_fewer_finds_exactly_what_is_needed(needed):
    names = [str(number) for number in range(10)]
    wanted = {str(number) for number in needed}
    assert set(minimal_subset(names, lambda some: wanted <= set(some))) == wanted


@pytest.mark.parametrize(
    ("dtype", "fits", "does_not", "vanishes"),
    [("float16", 65504, 65520, 2.0**-25), ("bfloat16", 3.38e38, 3.4e38, 0)],
)
def test_what_a_format_cannot_hold_is_counted(dtype, fits, does_not, vanishes):
    exact = np.array([fits, does_not, 1e-4, vanishes, 0.0], "float32")
    half = keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(exact, dtype), "float32"))
    told = count(half, dtype, reference_of(exact))
    assert (told.infinite, told.nan, told.underflow) == (1, 0, int(vanishes > 0))
