"""The file is the one that Keras writes, and holds one moment."""

from __future__ import annotations

import itertools
import os

import h5py
import keras
import numpy as np
import pytest

from keras_candle.checkpoints.layout import layout_of
from keras_candle.checkpoints.writing import WEIGHTS, HostSnapshot
from tests.checkpoints.conftest import build, save

KINDS = ("adam", "mixed_float16", "bfloat16", "rmsprop")


def content(path):
    """Every group and dataset of a file, with its attributes, dtype and bytes."""
    found = {}

    def look(name, item):
        bits = (str(item.dtype), item.shape, item[()].tobytes()) if "dtype" in dir(item) else None
        found[name] = (dict(item.attrs), bits)

    with h5py.File(path) as file:
        file.visititems(look)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_file_that_keras_writes(kind, tmp_path):
    model = build(kind)
    save(model, tmp_path)
    model.save_weights(tmp_path / "plain.weights.h5")
    expected = content(tmp_path / "plain.weights.h5")
    assert content(tmp_path / WEIGHTS) == expected
    assert len(expected) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_keras_loads_it_with_the_optimizer(kind, tmp_path):
    model, other = build(kind), build(kind)
    save(model, tmp_path)
    for variable in [*other.weights, *other.optimizer.variables]:
        variable.assign(keras.ops.zeros_like(variable.value))
    other.load_weights(tmp_path / WEIGHTS)
    pairs = zip(
        [*model.weights, *model.optimizer.variables],
        [*other.weights, *other.optimizer.variables],
        strict=True,
    )
    seeds = {"seed_generator_state"}  # Keras saves none
    assert all((a.numpy() == b.numpy()).all() for a, b in pairs if a.name not in seeds)


def test_an_object_that_saves_more_than_variables(tmp_path):
    class Counting(keras.layers.Layer):
        calls = 0

        def call(self, inputs):
            return inputs

        def save_own_variables(self, store):
            store["calls"] = np.asarray(self.calls)

        def load_own_variables(self, store):
            self.calls = int(store["calls"][()])

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), Counting()])
    snapshot = HostSnapshot(layout_of(model))
    model.layers[1].calls = 7
    snapshot.take()
    snapshot.write(tmp_path / WEIGHTS)
    model.layers[1].calls = 0
    model.load_weights(tmp_path / WEIGHTS)
    assert model.layers[1].calls == 7


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_stays_as_it_was_while_the_model_trains_on(kind, tmp_path):
    model = build(kind)
    snapshot = HostSnapshot(layout_of(model))
    snapshot.take()
    model.save_weights(tmp_path / "plain.weights.h5")
    model.fit(np.ones((20, 8)), np.ones((20, 3)), verbose=0)
    snapshot.write(tmp_path / WEIGHTS)
    assert content(tmp_path / WEIGHTS) == content(tmp_path / "plain.weights.h5")


WAYS = {
    "compiled": {"optimizer": "adam", "jit_compile": True},
    "eager": {"optimizer": "adam", "run_eagerly": True},
    "several steps": {"optimizer": "rmsprop", "steps_per_execution": 3},
    "with averages": {"optimizer": keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)},
    "accumulating": {"optimizer": keras.optimizers.Adam(gradient_accumulation_steps=2)},
}


@pytest.mark.parametrize("way", WAYS)
def test_however_its_variables_are_updated(way, tmp_path):
    words = np.random.default_rng(0).integers(0, 40, (30, 5))
    layers = [keras.layers.Embedding(50, 8), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((5,), dtype="int32"), *layers])
    model.compile(loss="mse", **WAYS[way])
    model.fit(words, np.ones(30), batch_size=5, verbose=0)
    snapshot = HostSnapshot(layout_of(model))
    for _ in range(2):  # rows of the table are updated in place from the first step on
        snapshot.take()
        model.save_weights(tmp_path / "plain.weights.h5")
        model.fit(words, np.ones(30), batch_size=5, verbose=0)
        layers[2].bias.assign_add([1.0])
        (tmp_path / WEIGHTS).unlink(missing_ok=True)
        snapshot.write(tmp_path / WEIGHTS)
        assert content(tmp_path / WEIGHTS) == content(tmp_path / "plain.weights.h5")


def test_touching_it_changes_nothing(tmp_path):
    model = build()
    snapshot = HostSnapshot(layout_of(model))
    snapshot.touch()
    snapshot.take()
    snapshot.write(tmp_path / WEIGHTS)
    model.save_weights(tmp_path / "plain.weights.h5")
    assert content(tmp_path / WEIGHTS) == content(tmp_path / "plain.weights.h5")


def test_a_layout_fits_as_long_as_the_tensors_do():
    def places():
        return [
            (each.name, each.shape, each.dtype, each.offset_bytes)
            for each in layout_of(model).places
        ]

    model = build()
    before = places()
    model.fit(np.ones((20, 8)), np.ones((20, 3)), verbose=0)
    assert places() == before
    model.compile("sgd", "mse")
    assert places() != before


def test_a_file_costs_its_tensors_and_little_more():
    layers = [keras.Input((500,)), keras.layers.Dense(2000), keras.layers.Dense(500)]
    layout = layout_of(keras.Sequential(layers))
    tensors = sum(place.size_bytes for place in layout.places)
    assert sum(map(len, layout.pieces.values())) < 20_000
    assert layout.size_bytes <= 1.01 * tensors
    pairs = itertools.pairwise(layout.places)
    assert all(a.offset_bytes + a.size_bytes <= b.offset_bytes for a, b in pairs)


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    def full(descriptor, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    snapshot = HostSnapshot(layout_of(build()))
    with pytest.raises(OSError, match="No space left"):
        snapshot.write(tmp_path / WEIGHTS)
    assert (tmp_path / WEIGHTS).stat().st_size == 0
