"""The table of the benchmarks' claims."""

from __future__ import annotations

import pytest

from examples.benchmarks.__main__ import put, table
from examples.benchmarks.checkpoint import slowed_by, usual_excesses
from examples.benchmarks.claims import Claim

WHEN = "2026-11-27, a machine"


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (Claim("block", 1.0, "ms", "Keras", 10.0, at_most=0.125), True),
        (Claim("block", 2.0, "ms", "Keras", 10.0, at_most=0.125), False),
        (Claim("rate", 9.0, "/s", "Keras", 4.0, at_least=2.0), True),
        (Claim("processes", 1, at_most=0), False),
        (Claim("regret", 0.0, "", "chance", 0.0, at_most=1.0), True),
        (Claim("regret", 0.1, "", "chance", 0.0, at_most=1.0), False),
        (Claim("step", 5.0, "ms", "plain", 1.0), True),
    ],
)
def test_a_claim_holds_within_its_bounds(claim, holds):
    assert claim.holds == holds
    assert ("MISSED" in str(claim)) == (not holds)


def test_a_benchmark_takes_the_place_of_its_former_table():
    first = table("one", "python -m one", [Claim("a", 1.0)], WHEN)
    other = table("two", "python -m two", [Claim("b", 2.0)], WHEN)
    again = table("one", "python -m one", [Claim("c", 3.0)], WHEN)
    page = put(put(put("# Benchmarks\n", "one", first), "two", other), "one", again)
    assert page.count("## one") == page.count("## two") == 1
    assert "| c | 3 |" in page
    assert "| b | 2 |" in page
    assert "| a | 1 |" not in page
    assert "`python -m one`, 2026-11-27, a machine" in page
    assert page.index("## one") < page.index("## two")


def steps(*lasted, begin=100.0):
    ends = [begin + sum(lasted[: number + 1]) for number in range(len(lasted))]
    return list(zip([begin, *ends], ends, strict=False))


def test_a_checkpoint_slows_the_steps_that_overlap_its_write():
    usual = usual_excesses([steps(3.0, 1.0, 1.0, 1.0), steps(5.0, 3.0, 3.0, 3.0)])
    assert usual == [2.0, 0.0, 0.0, 0.0]
    # The first two steps overlap: their epoch's others take 2 s, and the first one 2 s more.
    assert slowed_by(steps(4.5, 2.75, 2.0, 2.0), (99.0, 105.0), usual) == 0.5 + 0.75
    assert slowed_by(steps(4.0, 2.0, 2.0, 2.0), (99.0, 105.0), usual) == 0.0
    assert slowed_by(steps(4.0, 2.0, 2.0, 2.0), (99.0, 999.0), usual) is None
