"""A model that each rank trains for itself is reported once, on root."""

from __future__ import annotations

from tests.training import unscaled_cases as cases


def sentence(name):
    return (
        f"model {name!r} is not scaled: each of the 2 ranks trains a copy of its own on all of its "
        "data. Pass it to candle.scale(model) before fit, or put @candle.scalable on the function "
        "that builds it."
    )


def test_models_before_and_after_the_first_scaled_one_are_reported(ranks):
    root, second = ranks(2).run(cases.beside_a_scaled_one)
    assert root == [sentence("before"), sentence("plain")]
    assert second == []


def test_what_root_alone_trains_is_reported_and_nothing_waits(ranks):
    assert ranks(2).run(cases.on_root_alone) == [[sentence("judge")], []]


def test_a_rank_that_works_alone_is_not_reported(ranks):
    assert ranks(2).run(cases.in_a_group_of_one) == [[], []]
