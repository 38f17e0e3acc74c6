"""The chain around a model's train function: its order, and that nothing else writes it."""

import ast
import gc
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_candle.training import step_chain
from keras_candle.training.fit_call import FitCall
from keras_candle.training.fit_chain import Place
from keras_candle.training.step_chain import chain_of

PACKAGE = Path(step_chain.__file__).parents[1]


@pytest.fixture
def model():
    built = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    built.compile("sgd", "mse")
    return built


def link(name, calls):
    def surround(train, iterator):
        calls.append(f"before {name}")
        logs = train(iterator)
        calls.append(f"after {name}")
        return logs

    return surround


def test_the_order_is_that_of_the_table(model):
    calls = []
    model.train_function = lambda iterator: calls.append(iterator) or {"loss": 1.0}
    chain = chain_of(model)
    for place in (Place.GUARD, Place.RESUME, Place.TIMING):
        chain.put(place, link(place.name, calls))
    assert model.train_function("data") == {"loss": 1.0}
    before, after = calls[:3], calls[4:]
    assert before == ["before RESUME", "before TIMING", "before GUARD"]
    assert calls[3] == "data"
    assert after == ["after GUARD", "after TIMING", "after RESUME"]


def test_a_place_that_is_not_around_a_step_is_refused(model):
    with pytest.raises(ValueError, match="DISPLAY is not in the order around a step"):
        chain_of(model).put(Place.DISPLAY, link("display", []))


def test_a_chain_without_links_leaves_keras_function_as_it_is(model):
    plain = model.train_function = lambda _: {}
    chain = chain_of(model)
    chain.put(Place.TIMING, link("a", []))
    assert model.train_function is not plain
    chain.remove(Place.TIMING)
    assert model.train_function is plain
    chain.remove(Place.TIMING)


def test_a_program_that_surrounds_the_function_too_calls_each_link_once(model):
    calls = []
    model.train_function = lambda _: calls.append("train")
    chain = chain_of(model)
    chain.put(Place.GUARD, link("consensus", calls))
    inner = model.train_function
    model.train_function = lambda iterator: calls.append("program") or inner(iterator)
    chain.put(Place.TIMING, link("timing", calls))
    model.train_function(None)
    assert calls == [
        "before timing", "before consensus", "program", "train", "after consensus", "after timing",
    ]  # fmt: skip


def test_a_link_may_take_itself_or_one_inside_out(model):
    calls = []
    model.train_function = lambda _: {}
    chain = chain_of(model)

    def once(train, iterator):
        chain.remove(Place.RESUME)
        chain.remove(Place.TIMING)
        return train(iterator)

    chain.put(Place.TIMING, link("timing", calls))
    chain.put(Place.GUARD, link("consensus", calls))
    chain.put(Place.RESUME, once)
    model.train_function(None)
    assert calls == ["before consensus", "after consensus"]


def test_what_keras_makes_anew_is_surrounded_again(model):
    calls, data = [], (np.ones((4, 2)), np.ones(4))
    chain = chain_of(model)
    chain.put(Place.TIMING, link("timing", calls))
    model.fit(*data, verbose=0)  # made after the link was put: nobody has asked for it yet
    assert calls == []
    chain.install()
    model.fit(*data, verbose=0)
    assert calls == ["before timing", "after timing"]
    taken = chain.take()
    assert (model.train_function, calls[2:]) == (None, [])
    chain.restore(taken)
    model.fit(*data, verbose=0)
    assert calls == 2 * ["before timing", "after timing"]


def test_a_chain_does_not_keep_its_model():
    class Named:
        train_function = None

    model = Named()
    chain_of(model).put(Place.TIMING, link("timing", []))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_nothing_else_writes_the_train_function():
    writers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr == "train_function"
        and isinstance(node.ctx, ast.Store)
    }
    assert writers == {"training/step_chain.py"}


def test_a_call_of_fit_is_changed_in_a_copy():
    call = FitCall({"x": 1, "epochs": 2})
    other = call.changed(epochs=3)
    assert (dict(call), dict(other)) == ({"x": 1, "epochs": 2}, {"x": 1, "epochs": 3})
    with pytest.raises(KeyError, match="'epoch'"):
        call.changed(epoch=3)
    with pytest.raises(TypeError):
        call["epochs"] = 3
