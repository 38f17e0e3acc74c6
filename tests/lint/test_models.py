"""Reading finds faults of layers, steps, losses and callbacks, and none in their look-alikes."""

from __future__ import annotations

import pytest

from tests.lint.marks import found, marked
from tests.lint.model_cases import CLEAN, FOUND


@pytest.mark.parametrize("name", FOUND)
def test_faults_are_found(name):
    assert found(FOUND[name]) == marked(FOUND[name]) != set()


@pytest.mark.parametrize("name", CLEAN)
def test_look_alikes_are_not(name):
    assert found(CLEAN[name]) == set()
