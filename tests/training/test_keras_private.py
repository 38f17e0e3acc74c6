"""The contract with Keras: every private name is there, and does what we lean on.

These tests need nothing of this package's environment but Keras, TensorFlow and pytest: CI runs
them on the oldest and on the newest Keras that is supported.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_candle import keras_private
from keras_candle.data.shuffling import RowOrder
from keras_candle.engine.single import SingleEngine
from keras_candle.errors import CandleError


def test_every_name_is_there():
    assert keras_private.missing_names() == []


def test_a_keras_that_lacks_one_gets_a_sentence():
    gone = keras_private.PrivateName("keras.src.trainers.trainer", "Trainer._gone", "this test")
    with pytest.raises(
        CandleError, match=r"this test \(it also lacks Trainer._gone, Trainer._gone\)"
    ):
        keras_private.check_private_names((gone, gone, gone))
    with pytest.raises(CandleError) as caught:
        keras_private.check_private_names((*keras_private.PRIVATE_NAMES, gone))
    assert str(caught.value).startswith(f"Keras {keras.__version__} has no keras.src.trainers")
    assert "which keras_candle needs for: this test. Install" in str(caught.value)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (bounds,) = (each for each in project["dependencies"] if each.startswith("keras>"))
    assert f"pip install '{bounds}'" in str(caught.value)


def model():
    built = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    built.compile("sgd", "mse")
    return built


def test_what_stands_on_the_instance_is_what_fit_calls():
    calls = []
    trained = model()

    def noted(owner, name):
        plain = getattr(owner, name)

        def call(*args, **kwargs):
            calls.append(name)
            return plain(*args, **kwargs)

        setattr(owner, name, call)

    for name in ("make_train_function", "train_step", "test_step", "_get_metrics_result_or_logs"):
        noted(trained, name)
    for name in ("apply", "_backend_update_step", "_apply_weight_decay"):
        noted(trained.optimizer, name)
    trained.fit(np.ones((4, 2)), np.ones(4), validation_split=0.5, verbose=0)
    assert calls == [
        "make_train_function",
        "train_step",
        "apply",
        "_apply_weight_decay",
        "_backend_update_step",
        "_get_metrics_result_or_logs",
        "test_step",
        "_get_metrics_result_or_logs",
    ]


def test_a_data_adapter_passes_through_fit_and_validation():
    data = keras_private.ArrayDataAdapter(np.ones((6, 2)), np.ones(6), batch_size=2)
    history = model().fit(data, validation_data=(data,), verbose=0)
    assert set(history.history) == {"loss", "val_loss"}
    assert keras_private.get_data_adapter(data) is data
    x, y = data._inputs
    assert (x.shape, y.shape, data.batch_size, data.num_batches) == ((6, 2), (6,), 2, 3)


@pytest.mark.parametrize("shuffle", [True, "batch"])
@pytest.mark.parametrize("rows", [9, 11])
def test_the_order_of_rows_is_that_of_keras(shuffle, rows):
    """In each of three epochs, and where one iterator reads them all."""
    keras.utils.set_random_seed(1)
    numbers = np.arange(rows)
    stock = keras_private.ArrayDataAdapter(numbers, batch_size=3, shuffle=shuffle).get_tf_dataset()
    stock = stock.unbatch().batch(rows)
    ours = RowOrder(rows, 3, shuffle, SingleEngine()).dataset()
    for epochs in (1, 1, 3):
        expected = [order.tolist() for order in stock.repeat(epochs).as_numpy_iterator()]
        assert [order.tolist() for order in ours.repeat(epochs).as_numpy_iterator()] == expected
        assert all(sorted(order) == list(range(rows)) for order in expected)


def test_a_model_is_built_from_tensor_specs():
    import tensorflow as tf

    unbuilt = keras.Sequential([keras.layers.Dense(1)])
    unbuilt.compile("sgd", "mse", metrics=["mae"])
    unbuilt._symbolic_build(data_batch=(tf.TensorSpec([None, 2]), tf.TensorSpec([None])))
    assert [tuple(each.shape) for each in unbuilt.weights] == [(2, 1), (1,)]


def test_batch_normalization_takes_its_moments_from_the_instance():
    layer = keras.layers.BatchNormalization(momentum=0.0)
    layer.build((None, 2))
    layer._moments = lambda inputs, mask: (np.full(2, 5.0, "float32"), np.ones(2, "float32"))
    layer(np.zeros((3, 2), "float32"), training=True)
    assert np.asarray(layer.moving_mean.value).tolist() == [5.0, 5.0]


def test_shuffles_show_their_seeds():
    import tensorflow as tf

    shuffled = tf.data.Dataset.range(3).shuffle(3, seed=4).batch(2)
    (source,) = keras_private.dataset_inputs(shuffled)
    assert "Shuffle" in type(source).__name__
    assert int(source._seed2) == 4


def test_weights_are_without_seeds_and_dropout_has_one():
    dropout = keras.layers.Dropout(0.5)
    built = keras.Sequential([keras.Input((2,)), dropout])
    assert built.weights == []
    assert tuple(dropout._seed_generators[0].state.shape) == (2,)
    assert built in list(built._flatten_layers())


def test_an_attribute_that_is_gone_gets_a_sentence():
    class Renamed(keras.losses.Loss):
        """As if Keras had renamed what it keeps its losses in."""

    trained = model()
    trained._compile_loss = Renamed()
    with pytest.raises(CandleError) as caught:
        keras_private.compiled_losses(trained)
    assert "Renamed has no _flat_losses, which keras_candle needs for: losses" in str(caught.value)
    assert f"with Keras {keras.__version__}. Install" in str(caught.value)


def test_compiled_losses_can_be_replaced():
    trained = model()
    assert keras_private.compiled_losses(trained) == []
    trained.train_on_batch(np.ones((4, 2)), np.ones(4))
    losses = keras_private.compiled_losses(trained)
    (only,) = losses
    losses[0] = only._replace(loss=lambda y_true, y_pred, sample_weight: 0 * y_pred[0, 0] + 7)
    assert trained.evaluate(np.ones((4, 2)), np.ones(4), verbose=0) == 7.0


def test_a_model_that_is_not_compiled_has_no_losses():
    assert keras_private.compiled_losses(keras.Sequential()) == []


def test_metrics_show_their_parts():
    class Whole(keras.metrics.Metric):
        def __init__(self):
            super().__init__()
            self.first = keras.metrics.Mean(name="a")
            self.rest = [keras.metrics.Mean(name="b"), {"c": keras.metrics.Mean(name="c")}]

    assert [each.name for each in keras_private.metric_parts(Whole())] == ["a", "b", "c"]


def test_function_metrics_show_their_function():
    metric = keras.metrics.MeanMetricWrapper(lambda y_true, y_pred, by: by * y_pred, by=3)
    assert keras_private.metric_function(metric)(0, 2) == 6


def test_the_first_batch_of_a_generator_is_not_lost():
    batches = ((np.full((2, 1), i), np.ones(2)) for i in range(3))
    adapter = keras_private.get_data_adapter(batches)
    assert float(keras_private.first_batch(adapter)[0][0, 0]) == 0
    assert [float(x[0, 0]) for x, _ in adapter.get_numpy_iterator()] == [0, 1, 2]


def test_masks_are_on_outputs():
    masked = keras.layers.Masking()(np.array([[[1.0], [0.0]]], "float32"))
    assert np.asarray(keras_private.get_keras_mask(masked)).tolist() == [[True, False]]
    assert keras_private.get_keras_mask(keras.ops.ones(3)) is None
    plain = keras.ops.ones(2)
    keras_private.set_keras_mask(plain, keras.ops.zeros(2))
    assert np.asarray(keras_private.get_keras_mask(plain)).tolist() == [0, 0]


def test_datasets_show_what_they_are_made_of():
    import tensorflow as tf

    tf.random.set_seed(None)
    made = tf.data.Dataset.from_tensor_slices([1, 2])
    assert [each.numpy().tolist() for each in keras_private.dataset_arrays(made)] == [[1, 2]]
    assert keras_private.dataset_arrays(made.batch(2)) is None
    assert keras_private.dataset_seeds(made) is None
    assert keras_private.dataset_seeds(made.shuffle(2)) == (0, 0)
    assert keras_private.dataset_seeds(made.shuffle(2, seed=3))[1] == 3
    assert keras_private.dataset_seeds(tf.data.Dataset.random(seed=4))[1] == 4


@pytest.mark.parametrize("how", ["map", "batch"])
@pytest.mark.parametrize("ordered", [True, False, None])
def test_parallel_datasets_show_whether_they_keep_their_order(how, ordered):
    import tensorflow as tf

    made = tf.data.Dataset.range(4)
    arguments = {"num_parallel_calls": 2, "deterministic": ordered}
    parallel = made.map(abs, **arguments) if how == "map" else made.batch(2, **arguments)
    assert keras_private.keeps_order(parallel) is (ordered is not False)
    assert keras_private.keeps_order(made)
