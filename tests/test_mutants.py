"""The table of mutants fits the code as it is."""

from __future__ import annotations

import ast
import re

import pytest

from tests.mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_each_mutant_is_one_change_of_the_code_and_its_tests_are_there(mutant):
    source = (ROOT / "keras_candle" / mutant.file).read_text()
    faulty = mutant.applied(source)
    assert faulty != source
    ast.parse(faulty)
    for test in mutant.tests:
        path, _, name = test.partition("::")
        functions = re.findall(r"^def (test_\w+)", (ROOT / "tests" / path).read_text(), re.M)
        assert functions
        assert not name or name.partition("[")[0] in functions


def test_a_mutant_has_a_name_of_its_own():
    assert len({each.what for each in MUTANTS}) == len(MUTANTS)
