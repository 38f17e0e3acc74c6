"""Law 1: on one rank and with default arguments nothing changes, to the bit."""

from __future__ import annotations

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_candle as candle
from tests.training import cases


def trained(build):
    keras.utils.set_random_seed(3)
    model = build()
    history = model.fit(*cases.digits_like(), epochs=2, validation_split=0.2, verbose=0)
    return model, history.history


def plain():
    return cases.dense_model(optimizer=keras.optimizers.Adam(0.01, global_clipnorm=0.1))


def test_losses_and_weights_are_those_of_the_plain_script():
    model, history = trained(plain)
    decorated, its_history = trained(candle.scalable(plain))
    assert its_history == history
    assert cases.bits(decorated) == cases.bits(model)


def test_the_model_is_the_very_same_object():
    model = plain()
    before = dict(vars(model))
    assert candle.scale(model) is model
    assert candle.scalable(lambda: model)() is model
    assert vars(model) == before
    assert "apply" not in vars(model.optimizer)


def without_addresses(node):
    """Keras writes the memory addresses of what is shared into its files."""
    return {key: value for key, value in node.items() if key != "shared_object_id"}


def arrays_of(h5):
    """Path and bytes of each array: the file around them holds the time at which it was made."""
    arrays = []
    with h5py.File(io.BytesIO(h5)) as file:
        file.visititems(
            lambda path, node: (
                arrays.append((path, node[()].tobytes()))
                if isinstance(node, h5py.Dataset)
                else None
            )
        )
    return arrays


def test_saved_files_are_those_of_the_plain_script(tmp_path):
    contents = []
    for number, build in enumerate((plain, candle.scalable(plain))):
        keras.utils.clear_session()
        model, _ = trained(build)
        path = tmp_path / f"{number}.keras"
        model.save(path)
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"), object_hook=without_addresses)
            weights = arrays_of(archive.read("model.weights.h5"))
        contents.append((config, weights))
    assert contents[0][1]
    assert contents[0] == contents[1]


def test_a_decorated_function_keeps_its_name_and_arguments():
    @candle.scalable
    def build_small(units, *, bias=True):
        """Builds it."""
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units, use_bias=bias)])
        model.compile("sgd", "mse")
        return model

    assert (build_small.__name__, build_small.__doc__) == ("build_small", "Builds it.")
    assert build_small(3, bias=False).count_params() == 6


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16", "auto"])
def test_the_global_policy_is_what_it_was(precision):
    before = keras.config.dtype_policy().name
    model = candle.scalable(precision=precision)(plain)()
    assert keras.config.dtype_policy().name == before
    if precision != "auto":
        assert model.layers[0].dtype_policy.name == precision


def test_the_global_policy_is_what_it_was_after_an_error():
    def fails():
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        raise KeyError("my own")

    with pytest.raises(KeyError, match="my own"):
        candle.scalable(precision="mixed_bfloat16")(fails)()
    assert keras.config.dtype_policy().name == "float32"


def test_predictions_are_those_of_the_plain_script():
    x, _ = cases.digits_like()
    predicted = [
        trained(build)[0].predict(x, verbose=0) for build in (plain, candle.scalable(plain))
    ]
    np.testing.assert_array_equal(*predicted)
