"""Axes: every value has its place, and ticks are round and apart."""

from __future__ import annotations

import random

import pytest

from keras_candle.report import names_of
from keras_candle.report.axes import (
    Categories,
    counting,
    fitted,
    of_time,
    spaced_ticks,
    without_outliers,
)
from keras_candle.report.chart import Point, Series, chart

RANDOM = random.Random(0)  # noqa: S311
SPREADS = [
    [0.0], [1e-12], [-3.0, 5e9], [1e-7, 1e3], [5.0, 5.0 + 1e-12], [0.0, 1e-300], [-1e100, 1e100],
    [1e-320, 1e100], [1.0, 1.009], [7e15, 7e15 + 2],
    *[[RANDOM.uniform(-1, 1) * 10 ** RANDOM.randint(-9, 9) for _ in range(9)] for _ in range(40)],
]  # fmt: skip


@pytest.mark.parametrize("values", SPREADS)
@pytest.mark.parametrize("log", [None, True, False])
def test_values_keep_their_order_and_ticks_lie_on_the_axis(values, log):
    axis = fitted(values, log=log)
    places = [axis.place(each) for each in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= each <= 1 for each in places)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 30
    assert all(-1e-6 <= place <= 1 + 1e-6 for place, _ in ticks)
    assert len({text for _, text in spaced_ticks(ticks, 500)}) == len(spaced_ticks(ticks, 500))


def test_an_axis_of_counts_has_whole_numbers():
    assert [text for _, text in counting(3, "epoch").ticks()] == ["1", "2", "3"]


@pytest.mark.parametrize(("seconds", "unit"), [(0.5, "seconds"), (600, "minutes"), (3e5, "days")])
def test_times_have_the_unit_that_fits(seconds, unit):
    assert of_time([seconds]).label == f"time ({unit})"


def test_what_is_far_worse_than_most_does_not_press_the_others_together():
    values = [*[float(each) for each in range(10)], 1e9]
    assert without_outliers(values, 1) == values[:-1]
    assert without_outliers(values, -1) == values


def test_a_long_line_keeps_its_extremes():
    axes = (counting(5000, "epoch"), fitted([0.0, 1.0]))
    points = [Point(float(n), float(n == 2222), f"epoch {n}") for n in range(1, 5001)]
    drawn = chart("", axes, [Series("line", points), Series("dots", [points[2221]])])
    (_, line, *_), *_, (_, dot, *_) = drawn.layers[1]
    assert f"L{dot['cx']} {dot['cy']}L" in line["d"]
    assert line["d"].count("L") < 700
    assert len(drawn.layers[1]) < 100


def test_categories_have_their_place_each():
    axis = Categories(("a", "b"))
    assert [axis.place("a"), axis.place("b"), axis.place(0.5)] == [0.25, 0.75, 0.5]


def test_names_are_as_short_as_tells_them_apart(tmp_path):
    paths = [tmp_path / "a/x", tmp_path / "b/x", tmp_path / "c"]
    assert names_of(paths) == ["a/x", "b/x", f"{tmp_path.name}/c"]
