"""Laws of architecture search: every choice gives a model."""

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
