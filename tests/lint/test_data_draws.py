"""Reading finds draws that reach a training, and no others."""

from __future__ import annotations

import pytest

from tests.lint.data_cases import CLEAN, FOUND
from tests.lint.marks import found, marked


@pytest.mark.parametrize("name", FOUND)
def test_draws_that_reach_a_training_are_found(name):
    assert found(FOUND[name]) == marked(FOUND[name]) != set()


@pytest.mark.parametrize("name", CLEAN)
def test_look_alikes_are_not(name):
    assert found(CLEAN[name]) == set()
