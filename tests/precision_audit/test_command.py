"""`candle audit-precision` on scripts as users write them: what is found, where, what to pin."""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "scripts"

# script -> precision -> findings and pins: the layer, (what,) and the code that made it.
ATTENTION = "x = Attention(8)(x, ops.not_equal(tokens, 0))"
DENSES = "self.query, self.key = layers.Dense(units), layers.Dense(units)"
ENERGY = 'squared = layers.Lambda(lambda each: each * each, name="energy")(hidden)'
MIXED = 'mixed = layers.Dense(8, name="mixed")(squared)'
SHIFT = "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), Shift()])"
FINDINGS = {
    "masked_attention": [("attention", "nan", ATTENTION), ("attention", "constant", ATTENTION)],
    "functional_mask": [("multiply", "inf", None), ("multiply", "constant", None)],
    "small_epsilon": [
        ("unit_length", "nan", "UnitLength(),"),
        ("unit_length", "constant", "UnitLength(),"),
    ],
    "exploding": [("energy", "inf", ENERGY), ("mixed", "inf", MIXED)],
    "vanishing": [],
    "clean": [],
    "own_step": [
        ("ranking", "nan", "model = Ranking()"),
        ("ranking", "constant", "model = Ranking()"),
    ],
    "one_precision_fails": [("shift", "error", SHIFT)],
}
PINS = {
    "masked_attention": [("attention/dense_1", DENSES)],
    "functional_mask": [("scores", 'scores = layers.Dense(8, name="scores")(inputs)')],
    "small_epsilon": [("unit_length", "UnitLength(),")],
    "exploding": [("energy", ENERGY), ("mixed", MIXED)],
    "own_step": [("dense", "self.mix = layers.Dense(8)")],
    "one_precision_fails": [("shift", SHIFT)],
}
CONSTANTS = {
    "masked_attention": "constant -1e+09 becomes -inf",
    "functional_mask": "constant -1e+09 becomes -inf",
    "small_epsilon": "constant 1e-08 becomes 0",
    "own_step": "constant 300000 becomes inf",
}


def audit(folder, *arguments, timeout_s=200):
    return subprocess.run(
        [sys.executable, "-m", "keras_candle.launch.cli", "audit-precision", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """The exit code, what is told and the folder; each script is audited once."""

    @functools.cache
    def run(script):
        folder = tmp_path_factory.mktemp(script)
        shutil.copy(SCRIPTS / f"{script}.py", folder / "train.py")
        done = audit(folder, "--json", "train.py")
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, json.loads(done.stdout), folder

    return run


def of(told, precision):
    return next(each for each in told["precisions"] if each["precision"] == precision)


def measured(told, precision, *, pinned=False):
    return next(
        each
        for each in told["measured"]
        if each["precision"] == precision and bool(each["pins"]) == pinned
    )


def code(folder, layer):
    if layer["line"] is None:  # an operation, such as a product
        return None
    path, number = layer["line"]
    return (folder / path).read_text().splitlines()[number - 1].strip()


def findings(told, folder):
    return [(each["layer"], each["what"], code(folder, each)) for each in told["findings"]]


def pins(told, folder):
    return [(each["layer"], code(folder, each)) for each in told["pins"]]


@pytest.mark.parametrize("script", FINDINGS)
def test_what_float16_does_to_a_script_and_what_mends_it(audited, script):
    exit_code, told, folder = audited(script)
    half = of(told, "mixed_float16")
    assert findings(half, folder) == FINDINGS[script]
    assert pins(half, folder) == PINS.get(script, [])
    assert half["left"] == []
    assert exit_code == (script in PINS)


@pytest.mark.parametrize("script", CONSTANTS)
def test_a_constant_is_named_as_it_is_written(audited, script):
    told = of(audited(script)[1], "mixed_float16")
    said = [each["said"] for each in told["findings"] if each["what"] == "constant"]
    assert said == [CONSTANTS[script]]


@pytest.mark.parametrize("script", FINDINGS)
def test_bfloat16_has_the_range_of_float32(audited, script):
    told = of(audited(script)[1], "mixed_bfloat16")
    fails = script == "one_precision_fails"
    assert [each["what"] for each in told["findings"]] == ["error"] * fails
    assert len(told["pins"]) == fails


@pytest.mark.parametrize("script", PINS)
def test_without_its_pins_float16_trains_nothing(audited, script):
    plain = measured(audited(script)[1], "mixed_float16")
    assert plain["error"] or plain["metrics"]["loss"] is None  # NaN


@pytest.mark.parametrize("script", FINDINGS)
def test_with_its_pins_float16_trains_as_float32_does(audited, script):
    told = audited(script)[1]
    exact = measured(told, "float32")
    half = measured(told, "mixed_float16", pinned=script in PINS)
    for each in (exact, half):
        assert each["step_s"] > 0
        assert (each["steps"], each["error"], each["skipped"]) == (128, "", 0)
    # Where a step divides by a scale that it has not multiplied with, it learns less.
    alike = math.isclose(half["metrics"]["loss"], exact["metrics"]["loss"], rel_tol=0.02)
    assert alike == of(told, "mixed_float16")["is_scaled"]
    assert alike == (script != "own_step")


def test_what_is_proposed_is_clean_once_it_is_written(audited, tmp_path):
    _, told, folder = audited("exploding")
    lines = (folder / "train.py").read_text().splitlines()
    for pin in of(told, "mixed_float16")["pins"]:
        number = pin["line"][1] - 1
        lines[number] = lines[number].replace(', name="', ', dtype="float32", name="')
    lines.insert(5, 'keras.config.set_dtype_policy("mixed_float16")')
    (tmp_path / "train.py").write_text("\n".join(lines))
    done = audit(tmp_path, "--json", "train.py")
    mended = json.loads(done.stdout)
    assert done.returncode == 0
    assert [each["findings"] for each in mended["precisions"]] == [[], []]
    own = [each["layer"] for each in mended["float32"]["own_dtype"]]
    assert own == ["energy", "mixed"]


def test_gradients_that_the_loss_scale_rescues(audited):
    half = of(audited("vanishing")[1], "mixed_float16")
    assert half["loss_scale"] == 2.0**15
    assert half["lost"] < 0.01
    first = half["lost_unscaled"]["layers"]
    assert first["dense"] > 0.95
    assert first["dense"] > first["dense_1"] > first["dense_2"]
    assert "dense_8" not in first


def test_a_loop_over_batches_and_a_layer_with_a_dtype_of_its_own(audited):
    _, told, folder = audited("clean")
    assert (told["method"], told["batches"], told["rows"]) == ("train_on_batch", 1, 64)
    own = [(each["layer"], each["dtype"]) for each in told["float32"]["own_dtype"]]
    assert own == [("dense_1", "float32")]
    assert os.listdir(folder) == ["train.py"]  # the script would have written another file


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('no training')\n", "train.py trains nothing that can be audited: it ended"),
        (
            "rows = []\nrows[3]\n",
            "train.py failed before its first training had begun: IndexError: list index out of "
            "range (train.py:2)",
        ),
        ("import time\ntime.sleep(100)\n", "train.py and the audit did not end in 2 s. Pass"),
    ],
)
def test_a_script_that_cannot_be_audited_says_why(body, said, tmp_path):
    (tmp_path / "train.py").write_text(body)
    done = audit(tmp_path, "--timeout", "2", "train.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "There is no script. Name one"),
        (["none.py"], "There is no file 'none.py' in"),
        (["--timeout", "0", "train.py"], "--timeout got 0; expected seconds"),
    ],
)
def test_bad_usage_says_what_was_expected(arguments, said, tmp_path):
    (tmp_path / "train.py").write_text("")
    done = audit(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
