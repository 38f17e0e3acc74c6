"""An object's state is taken as plain values and put back, and that runs no code of a file's."""

from __future__ import annotations

import json

import numpy as np

from keras_candle.checkpoints.plain import decode, encode
from keras_candle.resume.object_state import Capture, Restoration


class Node:
    def __init__(self, name, others=()):
        self.name, self.others = name, list(others)


class Closing:
    def __del__(self):
        raise AssertionError("made by a file")


class Named(dict):
    def __setitem__(self, key, value):
        raise AssertionError("the method of a subclass")


def through_a_file(state):
    arrays = {}
    return decode(json.loads(json.dumps(encode(state, arrays))), arrays)


def moved(value, current):
    state = through_a_file(Capture().take(value, "x"))
    restoration = Restoration(Node)
    return restoration.put(state, current, "x"), restoration.lost


def test_references_to_one_object_stay_so_also_in_a_circle():
    one = Node("one")
    one.others += [Node("two", [one]), one]
    found, lost = moved(one, None)
    assert lost == {}
    assert found.others[0].others[0] is found is found.others[1]
    assert found.others[0].name == "two"


def test_an_object_that_is_there_is_changed_in_its_place():
    there = Node("old", [1])
    others = there.others
    array = there.array = np.zeros(3)
    new = Node("new", [2, 3])
    new.array = np.arange(3.0)
    found, _ = moved(new, there)
    assert found is there
    assert found.others is others == [2, 3]
    assert found.array is array
    assert array.tolist() == [0, 1, 2]


def test_a_container_is_filled_past_its_own_methods():
    named = Named()
    dict.__setitem__(named, "a", Node("x"))
    found, lost = moved(named, Named())
    assert (found["a"].name, lost) == ("x", {})


def test_a_file_makes_no_object_of_a_class_elsewhere_or_with_a_destructor():
    for name in ("subprocess:Popen", "tests.resume.test_object_state:Closing", "os:system"):
        restoration = Restoration(Node)
        forged = ["object", 0, name, [["args", ["value", "true"]]]]
        assert restoration.put(forged, None, "x") is None
        assert list(restoration.lost) == ["x"]
    elsewhere = Restoration(type("Mine", (), {"__module__": "__main__"}))
    name = "tests.resume.test_object_state:Node"
    assert elsewhere.put(["object", 0, name, []], None, "x") is None
    member = Restoration(Node).put(["enum", "signal:Signals", "__class__"], None, "x")
    assert member is None


def test_what_is_kept_elsewhere_is_left_as_it_is():
    outside = Node("outside")
    state = Capture({id(outside)}).take(Node("x", [outside, 5]), "x")
    outside.name = "later"
    there = Node("y", [outside, 6])
    assert Restoration(Node).put(through_a_file(state), there, "x").others == [outside, 5]
    assert outside.name == "later"


def test_half_of_an_installed_packages_object_is_none(tmp_path):
    import argparse

    with open(tmp_path / "file", "w") as file:
        capture = Capture()
        assert capture.take(argparse.Namespace(a=1, file=file), "x") == ["lost"]
        assert capture.lost == {"x": "argparse.Namespace"}
        capture, mine = Capture(), Node("a", [file])
        assert capture.take(mine, "y")[0] == "object"
        assert capture.lost["y.others[0]"] == "_io.TextIOWrapper"
