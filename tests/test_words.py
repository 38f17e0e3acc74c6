"""The check of words finds them where it should, and nowhere else."""

from pathlib import Path

import pytest

from tests import words

BANNED = {"names": ["told"], "first-lines": ["told", "goes? on"], "allowed": ["told_apart"]}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def is_told(): ...", "the name is_told"),
        ("class IsTold: ...", "the name IsTold"),
        ("told = 1", "the name told"),
        ("def f(told): ...", "the name told"),
        ("self.told = 1", "the name told"),
        ('"""What is told."""', "'told' in 'What is told.'"),
        ('def f():\n    """It goes\n    on."""', "'goes on' in 'It goes on.'"),
        ('def f():\n    """It goes on."""', "'goes on' in 'It goes on.'"),
        ('"""Of `told`.\n\nWhat is told."""', None),
        ("told_apart = 1\nuntold = told", None),
    ],
)
def test_a_banned_word_is_found(source, expected):
    found = [each.what for each in words.findings(Path("x.py"), source, BANNED)]
    assert found == ([] if expected is None else [expected])
