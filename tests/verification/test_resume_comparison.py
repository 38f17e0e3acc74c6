"""Two trainings compared to the bit, and the description of the first difference."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_candle.verification.compare_resumes import causes_of, compare, differences
from keras_candle.verification.event_log import AttemptEvents
from tests.callback import cases


def told(run, memory="0"):
    fit = {"kind": "fit", "directory": "run", "path": str(run), "number": 0}
    end = {**fit, "kind": "end", "variables": [["dense/kernel", memory]], "history": {}}
    return AttemptEvents({0: [fit, end]}, None)


@pytest.fixture
def fits(tmp_path):
    """Trains twice from the same weights."""
    model = cases.small_model()
    weights = model.get_weights()

    def train(name, rate=0.01, epochs=2):
        cases.forget_fits()
        keras.utils.set_random_seed(1)
        model = cases.small_model()
        model.set_weights(weights)
        model.optimizer.learning_rate = rate
        cases.small_fit(tmp_path / name, model, epochs=epochs)
        return tmp_path / name

    return train


def test_the_same_training_twice_is_the_same(fits):
    assert compare(told(fits("one")), told(fits("other"))) == []


def test_the_first_epoch_and_tensor_are_named_with_both_values(fits):
    found = {each.kind: each for each in compare(told(fits("one")), told(fits("other", rate=0.02)))}
    assert found["history"].what == "loss of epoch 1"
    assert found["history"].fit == "fit 1 in run"
    assert float(found["history"].whole) != float(found["history"].killed)
    assert found["tensor"].what == "layers/dense/vars/0[0, 0]"


def test_an_epoch_that_is_missing_is_named(fits):
    found = compare(told(fits("one")), told(fits("other", epochs=1)))
    assert (found[0].what, found[0].killed) == ("loss of epoch 2", "missing")


def test_what_fit_left_in_memory_is_compared_too(fits):
    found = compare(told(fits("one"), "0"), told(fits("other"), "1"))
    assert [each.what for each in found] == ["variable 0 (dense/kernel) after fit on rank 0"]


def test_a_run_directory_of_another_name_and_one_without_checkpoints(fits, tmp_path):
    one = told(fits("one"))
    other = AttemptEvents({0: [{"kind": "fit", "directory": "run-2", "path": "/x"}]}, None)
    assert compare(one, other)[0].killed == "['run-2']"
    assert "no whole checkpoint" in compare(one, told(tmp_path / "none"))[0].killed


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (float("nan"), float("nan"), []),
        (0.0, -0.0, [((), 0.0, -0.0)]),
        ((1, 2), (1, 3), [((1,), 2, 3)]),
        (np.float32(1), np.float32(1), []),
        (np.array([np.nan, 1]), np.array([np.nan, 2]), [(([1],), 1.0, 2.0)]),
        (np.zeros(2), np.zeros(3), [((), "float64 [2]", "float64 [3]")]),
    ],
)
def test_values_are_compared_to_the_bit(one, other, found):
    assert list(differences(one, other)) == found


def test_causes_are_named_once():
    caveats = [("stateless", "Slower"), ("stateless", "Slower")]
    assert len(causes_of(["history", "tensor"], caveats)) == 1
    assert "global generator" in causes_of(["random numbers"], [])[0]
