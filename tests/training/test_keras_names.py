"""The contract with Keras: every private name is there, and does what we lean on.

These tests need nothing of this package's environment but Keras, TensorFlow and pytest: CI runs
them on the oldest and on the newest Keras that is supported.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_candle.engine.single import SingleEngine
from keras_candle.errors import CandleError
from keras_candle.training import keras_names
from keras_candle.training.order import RowOrder


def test_every_name_is_there():
    assert keras_names.missing_names() == []


def test_a_keras_that_lacks_one_gets_a_sentence():
    gone = keras_names.PrivateName("keras.src.trainers.trainer", "Trainer._gone", "this test")
    with pytest.raises(CandleError) as caught:
        keras_names.check_private_names((*keras_names.PRIVATE_NAMES, gone))
    assert str(caught.value).startswith(f"Keras {keras.__version__} has no keras.src.trainers")
    assert "which keras_candle needs for: this test. Install" in str(caught.value)


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
    data = keras_names.ArrayDataAdapter(np.ones((6, 2)), np.ones(6), batch_size=2)
    history = model().fit(data, validation_data=(data,), verbose=0)
    assert set(history.history) == {"loss", "val_loss"}
    assert keras_names.get_data_adapter(data) is data
    x, y = data._inputs
    assert (x.shape, y.shape, data.batch_size, data.num_batches) == ((6, 2), (6,), 2, 3)


@pytest.mark.parametrize("shuffle", [True, "batch"])
@pytest.mark.parametrize("rows", [9, 11])
def test_the_order_of_rows_is_that_of_keras(shuffle, rows):
    """In each of three epochs, and where one iterator reads them all."""
    keras.utils.set_random_seed(1)
    numbers = np.arange(rows)
    stock = keras_names.ArrayDataAdapter(numbers, batch_size=3, shuffle=shuffle).get_tf_dataset()
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
    (source,) = keras_names.dataset_inputs(shuffled)
    assert "Shuffle" in type(source).__name__
    assert int(source._seed2) == 4


def test_weights_are_without_seeds_and_dropout_has_one():
    dropout = keras.layers.Dropout(0.5)
    built = keras.Sequential([keras.Input((2,)), dropout])
    assert built.weights == []
    assert tuple(dropout._seed_generators[0].state.shape) == (2,)
    assert built in list(built._flatten_layers())
