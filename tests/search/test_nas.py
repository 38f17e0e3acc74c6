"""Laws of architecture search: every choice gives a model; mutants; inherited weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from keras_candle.errors import SearchError
from keras_candle.search.ask_settings import AskSettings
from keras_candle.search.history import History
from keras_candle.search.nas import Evolution, propose
from keras_candle.search.nas.evolution import mutate
from keras_candle.search.space import Dimension, SearchSpace

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


# Evolution.

SPACE = SearchSpace(
    [
        Dimension("kind", 4, ordered=False),
        Dimension("depth", 3),
        Dimension("width", 5, parents=((1, frozenset({1, 2})),)),
        Dimension("skip", 2, ordered=False, parents=((1, frozenset({2})),)),
        Dimension("rate"),
    ]
)
SETTINGS = AskSettings()


def _history(space: SearchSpace, units: Any, objective: Any) -> History:
    count = len(units)
    ones = np.ones(count)
    start = History.empty(len(space))
    return replace(start, units=space.canonical(units), objective=np.asarray(objective, float),
                   cost=ones, fidelity=ones, subspace=np.full(count, -1))  # fmt: skip


def _random_history(trials: int, seed: int = 0) -> History:
    rng = np.random.default_rng(seed)
    units = SPACE.sample(trials, rng)
    return _history(SPACE, units, rng.random(trials))


def test_a_mutant_differs_in_one_active_decision_and_what_follows_from_it() -> None:
    parents = SPACE.sample(400, np.random.default_rng(0))
    mutants = mutate(SPACE, parents, 0.0, np.random.default_rng(1))
    before, after = SPACE.values(parents), SPACE.values(mutants)
    active = SPACE.active(parents) & SPACE.active(mutants)
    differ = (before != after)[:, :4] & active[:, :4]
    np.testing.assert_array_equal(differ.sum(axis=1), 1)
    np.testing.assert_array_equal(SPACE.canonical(mutants), mutants)
    kept = parents[:, 4] == mutants[:, 4]
    assert 0.4 < kept.mean() < 0.6
    assert ((mutants[:, 4] >= 0) & (mutants[:, 4] <= 1)).all()


def test_every_architecture_can_be_reached_by_mutations() -> None:
    space = SearchSpace(SPACE.dimensions[:4])
    rng, reached = np.random.default_rng(0), set()
    units = np.repeat(space.all_points()[:1], 200, axis=0)
    for _ in range(20):
        units = mutate(space, units, 0.0, rng)
        reached |= set(space.keys(units))
    assert len(reached) == space.count == 4 * (1 + 5 + 5 * 2)


@pytest.mark.parametrize("ranked", [True, False])
def test_the_same_history_gives_the_same_proposal_and_never_a_tried_one(ranked: bool) -> None:
    history, how = _random_history(40), Evolution(ranked=ranked)
    running = replace(history, pending=history.units[:2])
    one, other = (
        propose(SPACE, running, SETTINGS, np.random.default_rng(3), how) for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)
    assert SPACE.key(one) not in SPACE.keys(history.units)


def test_a_finite_space_is_walked_through_once_then_the_search_ends() -> None:
    space = SearchSpace(SPACE.dimensions[:2])
    history, rng = History.empty(2), np.random.default_rng(0)
    while (unit := propose(space, history, SETTINGS, rng)) is not None:
        units = np.vstack([history.units, unit])
        history = _history(space, units, [float(i % 5) if i % 3 else np.nan
                                          for i in range(len(units))])  # fmt: skip
    assert len(set(space.keys(history.units))) == len(history.units) == 12


def test_parents_die_of_age() -> None:
    units = SPACE.canonical([[0.1, 0.1, 0, 0, 0.5]] + [[0.9, 0.9, 0.5, 0.5, 0.5]] * 6)
    history = _history(SPACE, units, [0.0, 1, 2, 3, 4, 5, 6])
    how = Evolution(population=6, tournament=6, start=1, further_mutations=0.0, ranked=False)
    for seed in range(10):
        mutant = propose(SPACE, history, SETTINGS, np.random.default_rng(seed), how)
        old = SPACE.values(units[:1])[0, :2]
        assert (SPACE.values(mutant[None])[0, :2] != old).any()


def _search(how: Evolution, seed: int, trials: int = 48) -> float:
    """The best of a search in a space of 4 x 6 x 6 x 4 choices and a rate."""
    sizes = (4, 6, 6, 4)
    space = SearchSpace([Dimension(str(i), n, ordered=n == 6) for i, n in enumerate(sizes)]
                        + [Dimension("rate")])  # fmt: skip

    def value(unit: Any) -> float:
        kind, a, b, other, _ = space.values(unit[None])[0]
        return float((kind != 2) + (other != 1) + abs(a - 4) / 3 + abs(b - 1) / 3
                     + 4 * (unit[4] - 0.7) ** 2)  # fmt: skip

    history, rng = History.empty(5), np.random.default_rng(seed)
    for _ in range(trials):
        unit = propose(space, history, SETTINGS, rng, how)
        units = np.vstack([history.units, unit])
        history = _history(space, units, [*history.objective, value(unit)])
    return float(history.objective.min())


def test_ranked_by_the_surrogate_evolution_gets_further_than_alone_and_alone_than_chance() -> None:
    ranked, alone, chance = (
        np.median([_search(how, seed) for seed in range(5)])
        for how in (
            Evolution(),
            Evolution(population=16, tournament=5, ranked=False),
            Evolution(start=1000),
        )
    )
    assert ranked < 0.3 * alone
    assert alone < chance


def test_neighbours_of_what_failed_are_avoided() -> None:
    units = SPACE.sample(60, np.random.default_rng(0))
    objective = np.random.default_rng(1).random(60)
    objective[SPACE.values(units)[:, 0] == 3] = np.nan
    history = _history(SPACE, units, objective)
    proposed = [propose(SPACE, history, SETTINGS, np.random.default_rng(i)) for i in range(10)]
    assert sum(SPACE.values(unit[None])[0, 0] == 3 for unit in proposed) <= 1


def test_an_evolution_that_cannot_be_is_named() -> None:
    with pytest.raises(SearchError, match="at least 1"):
        Evolution(population=0)


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
