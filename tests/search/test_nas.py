"""Laws of architecture search: every choice gives a model; inherited weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_candle.errors import SearchError

keras = pytest.importorskip("keras")
keras_tuner = pytest.importorskip("keras_tuner")

from keras_candle.search import nas  # noqa: E402
from keras_candle.search.hyperparameters import UnitCube, with_values  # noqa: E402

IMAGE, TEXT, ROW = (5, 3, 1), (6, 4), (7,)
# name -> (input shape, what is built on it)
PARTS: dict[str, tuple[tuple[int, ...], Callable[[Any, Any], Any]]] = {
    "dense_block": (ROW, lambda hp, x: nas.dense_block(hp, x, "a")),
    "conv_block": (IMAGE, lambda hp, x: nas.conv_block(hp, x, "a")),
    "text_block": (TEXT, lambda hp, x: nas.text_block(hp, x, "a")),
    "attention_block": (TEXT, lambda hp, x: nas.attention_block(hp, x, "a", heads=(1, 3))),
    "dense_cell": (ROW, lambda hp, x: nas.dense_cell(hp, x, "a")),
    "conv_cell": (IMAGE, lambda hp, x: nas.conv_cell(hp, x, "a", repeats=4)),
    "text_cell": (TEXT, lambda hp, x: nas.text_cell(hp, x, "a")),
    "text_cnn": (TEXT, lambda hp, x: nas.text_cnn(hp, x, "a", smallest=(5, 9))),
    "pooling": (IMAGE, lambda hp, x: nas.pooling(hp, x, "a")),
    "stack": (
        TEXT,
        lambda hp, x: nas.stack(hp, x, "a", nas.attention_block, (0, 2)),
    ),
    "nested": (
        IMAGE,
        lambda hp, x: nas.stack(
            hp, x, "a", lambda hp, x, name: nas.stack(hp, x, name, nas.conv_block)
        ),
    ),
}


def _space(part: str) -> Any:
    hp = keras_tuner.HyperParameters()
    shape, build = PARTS[part]
    build(hp, keras.Input(shape))
    return hp


def _model(part: str, values: dict[str, Any]) -> Any:
    shape, build = PARTS[part]
    inputs = keras.Input(shape)
    outputs = build(with_values(keras_tuner.HyperParameters(), values), inputs)
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("part", PARTS)
def test_every_choice_gives_a_model_that_predicts(part: str) -> None:
    cube, rng = UnitCube(_space(part)), np.random.default_rng(0)
    for unit in cube.space.sample(8, rng):
        model = _model(part, cube.values_of(unit))
        predicted = model(np.ones((2, *PARTS[part][0]), "float32"))
        assert np.isfinite(predicted).all()


@pytest.mark.parametrize("part", PARTS)
def test_one_build_registers_all_hyperparameters_whatever_was_chosen(part: str) -> None:
    first = _space(part)
    cube = UnitCube(first)
    for unit in cube.space.sample(4, np.random.default_rng(1)):
        hp = with_values(keras_tuner.HyperParameters(), cube.values_of(unit))
        shape, build = PARTS[part]
        build(hp, keras.Input(shape))
        assert [each.get_config() for each in hp.space] == [
            each.get_config() for each in first.space
        ]


def test_what_is_not_there_has_no_decisions() -> None:
    cube = UnitCube(_space("stack"))
    assert set(cube.values_of(cube.unit_of({"a/depth": 0}))) == {"a/depth"}
    names = set(cube.values_of(cube.unit_of({"a/depth": 1})))
    assert names == {"a/depth", "a/0/width", "a/0/heads", "a/0/feed_forward"}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda hp: nas.conv_block(hp, keras.Input((3, 4)), "a"),
        lambda hp: nas.text_cnn(hp, keras.Input((3, 4, 5)), "a"),
        lambda hp: nas.dense_block(hp, keras.Input((3,)), "a", kinds=("dens",)),
        lambda hp: nas.dense_block(hp, keras.Input((3,)), "a", kinds=()),
    ],
)
def test_what_does_not_fit_is_named(wrong: Callable[[Any], Any]) -> None:
    with pytest.raises(SearchError, match=r"'a'.* got .*expected"):
        wrong(keras_tuner.HyperParameters())


# Weights.


def _net(width: int, extra: bool = False) -> Any:
    layers = [
        keras.Input((4, 3)),
        keras.layers.MultiHeadAttention(2, 3, name="attention"),
        keras.layers.Dense(width, name="wide"),
        keras.layers.BatchNormalization(name="norm"),
    ]
    x = layers[0]
    x = layers[1](x, x)
    x = layers[3](layers[2](x))
    x = keras.layers.Dense(5, name="extra")(x) if extra else x
    return keras.Model(layers[0], keras.layers.Dense(2, name=f"out_{x.shape[-1]}")(x))


@pytest.mark.parametrize("kind", ["model", "file", "arrays"])
def test_a_child_with_the_same_layers_predicts_as_its_parent(kind: str, tmp_path: Any) -> None:
    parent, child, x = _net(6), _net(6), np.random.default_rng(0).random((2, 4, 3))
    for weight in parent.weights:
        weight.assign(np.random.default_rng(1).random(weight.shape))
    parent.save_weights(tmp_path / "parent.weights.h5")
    arrays = {each.path: each.numpy() for each in parent.weights}
    inherited = nas.inherit(
        child, {"model": parent, "file": tmp_path / "parent.weights.h5", "arrays": arrays}[kind]
    )
    np.testing.assert_array_equal(child(x), parent(x))
    assert set(inherited.taken) == {each.path for each in child.weights}


def test_what_has_another_shape_or_is_new_stays_and_is_told() -> None:
    child = _net(8, extra=True)
    before = {each.path: each.numpy() for each in child.weights}
    inherited = nas.inherit(child, _net(6))
    assert {path.split("/")[0] for path in inherited.taken} == {"attention"}
    assert {path.split("/")[0] for path in inherited.reshaped} == {"wide", "norm"}
    assert {path.split("/")[0] for path in inherited.new} == {"extra", "out_5"}
    for each in child.weights:
        if each.path not in inherited.taken:
            np.testing.assert_array_equal(each.numpy(), before[each.path])


def test_the_name_of_a_sequential_model_does_not_matter(tmp_path: Any) -> None:
    one, other = (
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")]) for _ in range(2)
    )
    one.save_weights(tmp_path / "one.weights.h5")
    assert nas.inherit(other, tmp_path / "one.weights.h5").new == ()
    assert nas.inherit(other, one).new == ()


def test_a_file_that_is_not_there_and_a_model_without_weights_are_named(tmp_path: Any) -> None:
    with pytest.raises(SearchError, match=r"cannot read .*none\.weights\.h5"):
        nas.inherit(_net(6), tmp_path / "none.weights.h5")
    with pytest.raises(SearchError, match="not built"):
        nas.inherit(keras.Sequential([keras.layers.Dense(2)]), _net(6))
