"""`candle check` as a command: bad usage, its output, its exit code, its page of documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from keras_candle.lint import KINDS

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "check.md"
CLEAN = "import keras_candle as candle\n\nprint(candle.size())\n"
NO_SEED = """import keras
import keras_candle as candle
import numpy as np

model = candle.scale(keras.Sequential([keras.layers.Dense(1)]))
model.compile("sgd", "mse")
model.fit(np.random.rand(9, 2), np.zeros(9))
"""


@pytest.mark.parametrize(
    ("arguments", "content", "words"),
    [
        ((), None, "no script"),
        (("gone.py",), None, "no file 'gone.py'"),
        (("--", "gone.py"), None, "no file 'gone.py'"),
        (("bad.py",), b"import keras\nif True\n    pass\n", "bad.py:2 is not valid Python"),
        (("bad.py",), b"x = 1\0", "is not valid Python"),
        (("bad.py",), b"x = '\xff'\n", "is not valid Python"),
        (("bad.py",), b"# coding: foo\n", "unknown encoding"),
        (("bad.py",), bytes(range(256)), "cannot be read"),
        (("bad.py",), b"x = " + b"-" * 50_000 + b"1\n", "nested too deeply"),
        (("bad.py",), b"x = f(y)" + b".map(f)" * 900 + b"\n", "nested too deeply"),
        (("bad.py",), b"import keras\n%matplotlib inline\n", "bad.py:2 is a notebook's command"),
        (("bad.py",), b'{"cells": [], "nbformat": 4}', "is a notebook. Export it first"),
        (("--timeout", "0", "bad.py"), b"", "--timeout got 0"),
        (("--timeout", "nan", "bad.py"), b"", "--timeout got nan"),
        (("sub",), None, "no file 'sub'"),
    ],
)
def test_bad_usage_is_one_sentence(candle, tmp_path, arguments, content, words):
    (tmp_path / "sub").mkdir()
    if content is not None:
        (tmp_path / "bad.py").write_bytes(content)
    done = candle("check", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("candle: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_neighbour_that_is_no_python_is_named(candle, tmp_path):
    (tmp_path / "train.py").write_text("import rows\n")
    (tmp_path / "rows.py").write_text("def\n")
    done = candle("check", "--no-run", "train.py")
    assert done.returncode == 2
    assert "rows.py:1 is not valid Python" in done.stderr


def test_a_clean_script(candle, tmp_path):
    (tmp_path / "train.py").write_text(CLEAN)
    done = candle("check", "--no-run", "train.py", "--epochs", "3")
    assert (done.returncode, done.stdout) == (0, "train.py: nothing found\n")


def test_a_finding_has_its_line_its_reason_and_the_change_to_make(candle, tmp_path):
    (tmp_path / "train.py").write_text(NO_SEED)
    done = candle("check", "--no-run", "train.py")
    first, why, do, _, summary = done.stdout.splitlines()
    assert done.returncode == 1
    assert first.startswith("train.py:7: error: np.random.rand() draws without a seed")
    assert first.endswith("[unseeded-data]")
    assert why.startswith("    why: ")
    assert do == "    do:  keras.utils.set_random_seed(0) before it"
    assert summary == "train.py: 1 error"


def test_findings_as_data(candle, tmp_path):
    (tmp_path / "train.py").write_text(NO_SEED)
    done = candle("check", "--no-run", "--json", "train.py")
    (finding,) = json.loads(done.stdout)
    assert done.returncode == 1
    assert (finding["path"], finding["line"], finding["code"]) == ("train.py", 7, "unseeded-data")
    texts = {"severity", "what", "reason", "remedy"}
    assert set(finding) == {"path", "line", "lines", "code"} | texts


DRAWS = "".join(f"x{n} = np.random.rand(9, 2)\nmodel.fit(x{n}, x{n})\n" for n in range(12))


def test_repeats_are_one_finding_with_all_its_lines(candle, tmp_path):
    head = NO_SEED.rpartition("model.fit")[0] + "rng = np.random.default_rng()\n"
    (tmp_path / "train.py").write_text(head + DRAWS + "model.fit(rng.random(9), x0)\n")
    done = candle("check", "--no-run", "train.py")
    lines = ", ".join(str(8 + 2 * n) for n in range(1, 12))
    assert done.stdout.count("[unseeded-data]") == 2  # a generator needs a seed of its own
    assert f"    also on lines {lines}\n" in done.stdout
    assert done.stdout.endswith("train.py: 2 errors\n")
    as_data = json.loads(candle("check", "--no-run", "--json", "train.py").stdout)
    assert as_data[1]["lines"] == [8 + 2 * n for n in range(12)]


def test_what_auto_refuses_is_never_advised(candle, tmp_path):
    plain = "import keras\nmodel = keras.Sequential()\nmodel.compile('sgd')\nmodel.fit(x)\n"
    refused = [
        "import horovod.keras as hvd\nhvd.init()\n",
        "import tensorflow as tf\nstrategy = tf.distribute.TPUStrategy()\n",
        "import os\nos.environ['KERAS_BACKEND'] = 'jax'\n",
    ]
    for head in ("", *refused):
        (tmp_path / "train.py").write_text(head + plain + "keras.optimizers.SGD().apply(g, v)\n")
        done = candle("check", "--no-run", "train.py")
        assert done.stdout.count("candle run --auto") == (0 if head else 2)


def test_a_script_for_auto_gets_the_advice_for_auto(candle, tmp_path):
    (tmp_path / "train.py").write_text(
        "from tensorflow import keras\nimport numpy as np\n"
        "model = keras.Sequential([keras.layers.BatchNormalization()])\n"
        "model.compile('sgd', 'mse')\nmodel.fit(np.random.rand(9, 2))\n"
    )
    done = candle("check", "--no-run", "--auto", "train.py")
    assert "KERAS_CANDLE_OPTIONS='{\"sync_batch_norm\": true}'" in done.stdout
    assert done.stdout.endswith("\n\ntrain.py: 1 note\n")


def test_notes_and_warnings_are_no_failure(candle, tmp_path):
    (tmp_path / "train.py").write_text("open('x', 'w').close()\n")
    done = candle("check", "--no-run", "train.py")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "train.py: 1 warning")


def test_the_document_lists_every_kind_of_finding():
    listed = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", DOCUMENT.read_text(), re.M)
    assert sorted(listed) == sorted((kind.code, kind.severity) for kind in KINDS)
