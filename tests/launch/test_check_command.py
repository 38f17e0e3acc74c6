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
    assert set(finding) == {"path", "line", "code", "severity", "what", "reason", "remedy"}


def test_notes_and_warnings_are_no_failure(candle, tmp_path):
    (tmp_path / "train.py").write_text("open('x', 'w').close()\n")
    done = candle("check", "--no-run", "train.py")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "train.py: 1 warning")


def test_the_document_lists_every_kind_of_finding():
    listed = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", DOCUMENT.read_text(), re.M)
    assert sorted(listed) == sorted((kind.code, kind.severity) for kind in KINDS)
