"""The learning rate is scaled where it is used, and nowhere else."""

from __future__ import annotations

import pytest

from keras_candle.errors import CandleError
from keras_candle.training.options import scaling_factor
from tests.training import state_cases as cases


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({}, 2),
        ({"learning_rate_scaling": "sqrt"}, 2**0.5),
        ({"learning_rate_scaling": None}, 1),
        ({"batch": "global"}, 1),
    ],
)
def test_each_rule(ranks, options, factor):
    for sizes, seen, effective in ranks(2).run(cases.constant_rate, **options):
        assert sizes == pytest.approx([0.5 * factor] * 4, rel=1e-5)
        assert seen == 0.5
        assert effective == pytest.approx([0.5 * factor])


def test_a_rule_of_ones_own(ranks):
    for sizes, *_ in ranks(3).run(cases.own_rule):
        assert sizes == pytest.approx([4.5, 4.5], rel=1e-5)


def test_optimizers_that_a_function_chooses(ranks):
    for sizes in ranks(2).run(cases.chosen_by_function):
        assert sizes == pytest.approx([1.0, 1.0], rel=1e-5)


def test_warm_up_goes_from_the_base_to_the_scaled_rate(ranks):
    ramp = [0.5 * (1 + min(step / 8, 1)) for step in range(12)]
    for sizes, seen, effective in ranks(2).run(cases.warmed_up):
        assert sizes == pytest.approx(ramp, rel=1e-5)
        assert (seen, effective) == (0.5, pytest.approx([0.75, 1.0, 1.0]))


def test_schedules_advance_by_size_steps(ranks):
    """Made for 12 steps of one rank, of which the boundary is after 3; here are 6 steps."""
    for sizes, *_ in ranks(2).run(cases.decaying):
        assert sizes == pytest.approx([0.5, 0.5, 0.25, 0.25, 0.25, 0.25], rel=1e-5)


def test_callbacks_set_the_base_rate(ranks):
    for seen, effective in ranks(2).run(cases.scheduled_by_callback):
        assert seen == pytest.approx([0.1, 0.05])
        assert effective == pytest.approx([0.2, 0.1])


def test_weight_decay_uses_the_scaled_rate(ranks):
    assert all(each <= 1e-6 for each in ranks(2).run(cases.decayed_weights))


@pytest.mark.parametrize("bad", ["cubic", lambda size: -1.0, lambda size: "many", 0.5])
def test_bad_rules_are_refused(bad):
    with pytest.raises(CandleError, match="learning_rate_scaling"):
        scaling_factor(bad, 2)


def test_a_schedule_needs_no_config(ranks):
    for weights, logs, _ in ranks(2).run(cases.scheduled_without_config):
        assert max(weights, logs) <= 1e-6
