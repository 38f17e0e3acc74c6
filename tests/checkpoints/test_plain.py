"""Plain values come back as they were; what is none is refused, and reading makes no other kind."""

from __future__ import annotations

import datetime
import json
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from keras_candle.checkpoints.plain import decode, encode, is_plain, mark

VALUES = [
    {"a": [1, 2.5, None, True, "text"], 3: ("key", b"\x00\xff")},
    {"__kind__": "tuple", "items": [1]},
    {1, 5, 3},
    frozenset({"x"}),
    deque([1, [2]], maxlen=3),
    deque(),
    OrderedDict([("b", 1), ("a", 2)]),
    Counter("banana"),
    defaultdict(list, {"a": [1]}),
    defaultdict(None, {2: 3}),
    bytearray(b"ab"),
    3 - 4j,
    range(2, 9, 3),
    slice(None, 4),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC),
    datetime.date(2026, 1, 2),
    datetime.time(3, 4),
    datetime.timedelta(days=-1, seconds=5),
    Decimal("1.50"),
    Fraction(1, 3),
    Path("runs/first"),
    UUID(int=7),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_with_its_type(value):
    arrays = {}
    written = json.loads(json.dumps(encode(value, arrays)))
    found = decode(written, arrays)
    assert is_plain(value)
    assert (type(found), repr(found)) == (type(value), repr(value))
    assert getattr(found, "default_factory", None) == getattr(value, "default_factory", None)
    assert mark(found) == mark(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.array(["a", "bc"]),
        np.array(["2026-01-02"], "datetime64[D]"),
        np.float16(2.5),
        np.int8(3),
    ],
    ids=repr,
)
def test_an_array_comes_back_with_its_dtype(array):
    arrays = {}
    found = decode(encode([array], arrays), arrays)[0]
    assert (type(found), found.dtype, found.shape) == (type(array), array.dtype, array.shape)
    assert (found == array).all()


def test_what_is_not_plain_is_refused():
    for value in (object(), [lambda: 0], {"x": {object()}}, defaultdict(lambda: 0), np.array([{}])):
        assert not is_plain(value)
        with pytest.raises(TypeError, match="is not plain"):
            encode(value, {})


def test_the_mark_sees_every_change_of_a_large_value():
    whole = {"list": [np.zeros(5000)], "text": "a"}
    other = {"list": [np.zeros(5000)], "text": "a"}
    assert mark(whole) == mark(other)
    other["list"][0][2500] = 1e-30
    assert mark(whole) != mark(other)
    assert mark(np.zeros(4)) != mark(np.zeros((2, 2))) != mark(np.zeros((2, 2), "int64"))
    assert mark([1]) != mark((1,)) != mark([1.0])


def test_a_file_names_no_class_to_be_made():
    for name in ("system", "Popen", "object", "getattr"):
        assert type(decode({"__kind__": name, "items": [1], "text": "x"}, {})) is dict
        forged = {"__kind__": "defaultdict", "factory": name, "pairs": []}
        assert decode(forged, {}).default_factory is None
