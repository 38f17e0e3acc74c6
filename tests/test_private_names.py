"""The check of private names finds those of other libraries, and none of our own."""

import pytest

from tests import private_names


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from keras.src.saving import saving_lib", "keras.src.saving"),
        ("import tensorflow.python.framework.ops", "tensorflow.python.framework.ops"),
        ("name = 'keras_tuner.src'", "keras_tuner.src"),
        ('"""Like keras.src."""', ""),
        ("names = ('_flatten_layers', 'flatten')", "_flatten_layers"),
        ("model._layers", "_layers"),
        ("super()._layers", "_layers"),
        ("self._layers", "_layers"),
        ("model._layers = []", "_layers"),
        ("getattr(model, '_layers', [])", "_layers"),
        ("getattr(model, '_candle_layers', [])", ""),
        ("os._exit(0), each._replace(a=1), model.__class__", ""),
        ("class A:\n    def f(self, other):\n        self._x = other._x", ""),
        ("def _find(): ...\nmodule._find()", ""),
    ],
)
def test_a_foreign_name_is_found(source, expected):
    found = list(private_names.findings({"a.py": source}))
    assert found == (
        [f"a.py:1: {expected} belongs into keras_candle/keras_private"] * bool(expected)
    )


def test_an_attribute_of_another_module_of_ours_is_no_foreign_one_on_self():
    sources = {"a.py": "class A:\n    def __init__(self): self._x = 1", "b.py": "self._x, model._x"}
    assert list(private_names.findings(sources)) == [
        "b.py:1: _x belongs into keras_candle/keras_private"
    ]
