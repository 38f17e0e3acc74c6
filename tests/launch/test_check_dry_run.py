"""Dry runs of real scripts: what only running them shows, and that nobody's files change."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from keras_candle import folder_copy
from keras_candle.launch.cli import main
from tests.launch.test_check_reading import marked

# Names and values are hidden from reading: almost everything in it is found by running.
# `#!` and codes as in check_cases.
HIDDEN = """
import importlib
import json
import sys
import tensorflow  # before Keras
import keras
import keras_candle as candle

draw = importlib.import_module("numpy").random.random
make = getattr(keras, "Sequential")


class Watching(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):  #! batch-hook-callback
        pass


layers = [keras.layers.Dense(len(word)) for word in {"a", "bb", "ccc", "dddd", "eeeee"}]
model = make([*layers, keras.layers.Dense(1)])
model.compile("sgd", "mse")  #! candle-not-used
callbacks = [Watching(), keras.callbacks.CSVLogger("history.csv")]
given = {"epochs": 1000, "callbacks": callbacks}
model.fit(draw((64, 3)), draw(64), **given)  #! data-differ-between-runs models-differ-between-runs
rows = getattr(tensorflow.data, "Dataset").from_tensor_slices((draw((64, 3)), draw(64)))
rows = rows.shuffle(64).batch(2)
model.fit(rows)  #! data-differ-between-runs models-differ-between-runs dataset-order-unseeded
mode = "w"
with open("kept.txt", mode) as file:  #! write-on-every-rank
    json.dump(sys.argv[1:], file)
if candle.is_root():
    open("root.txt", mode).close()
model.save("model.keras")
change = getattr(getattr(keras.optimizers, "SGD")(), "apply")
zeros = [keras.ops.zeros_like(each.value) for each in model.weights]
change(zeros, model.weights)  #! optimizer-out-of-reach
"""
CLEAN = """
import keras
import keras_candle as candle
import numpy as np

keras.utils.set_random_seed(0)


@candle.scalable
def build():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


x = np.random.rand(64, 3)
model = build()
model.fit(x, x[:, :1], epochs=1000, validation_split=0.2, callbacks=[
    keras.callbacks.ModelCheckpoint("best.keras"),
])
assert model.predict(x, verbose=0).shape == (64, 1)
model.evaluate(x, x[:, :1])
model.save("model.keras")
"""


def codes(done):
    found = json.loads(done.stdout)
    return {(line, each["code"]) for each in found for line in each["lines"]}


def test_what_only_running_shows(candle, tmp_path):
    (tmp_path / "train.py").write_text(HIDDEN)
    (tmp_path / "kept.txt").write_text("mine")
    before = sorted(os.listdir(tmp_path))
    done = candle("check", "--json", "--timeout", "260", "train.py", "--rows", "3", timeout_s=280)
    assert codes(done) == marked(HIDDEN), done.stderr
    assert done.returncode == 1
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_a_clean_script_stays_clean(candle, tmp_path):
    (tmp_path / "train.py").write_text(CLEAN)
    done = candle("check", "--timeout", "260", "train.py", timeout_s=280)
    assert (done.returncode, done.stdout) == (0, "train.py: nothing found\n"), done.stderr
    assert os.listdir(tmp_path) == ["train.py"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import rows\nrows.make()\n", "ValueError: no such column"),
        ("import sys\nsys.exit(3)\n", "exited with code 3"),
        ("import os\nos.kill(os.getpid(), 9)\n", "was killed by SIGKILL"),
    ],
)
def test_a_script_that_fails_is_a_finding(candle, tmp_path, body, reason):
    (tmp_path / "rows.py").write_text("def make():\n    raise ValueError('no such column')\n")
    (tmp_path / "train.py").write_text(body)
    done = candle("check", "--json", "train.py")
    (finding,) = json.loads(done.stdout)
    assert (done.returncode, finding["code"]) == (1, "dry-run-failed")
    assert finding["what"] == f"the dry run failed: {reason}"
    where = ("rows.py", 2) if "rows" in body else ("train.py", 0)
    assert (finding["path"], finding["line"]) == where


def test_a_script_that_does_not_end_is_a_finding(candle, tmp_path):
    (tmp_path / "train.py").write_text("while True:\n    pass\n")
    done = candle("check", "--json", "--timeout", "2", "train.py")
    assert codes(done) == {(0, "dry-run-unfinished")}
    assert done.returncode == 0


def test_dry_runs_for_auto_have_the_ranks_seeds(candle, tmp_path):
    draw = "(random.getrandbits(30) + hash('x')) % 200 + 1"
    (tmp_path / "train.py").write_text(f"import random, sys\nsys.exit({draw})\n")
    codes = [
        json.loads(candle("check", "--auto", "--json", "train.py").stdout)[0]["what"]
        for _ in range(2)
    ]
    assert codes[0].startswith("the dry run failed: exited with code ")
    assert codes[0] == codes[1]


def test_files_elsewhere_are_not_touched(candle, tmp_path):
    work, outside = tmp_path / "work", tmp_path / "outside"
    work.mkdir()
    outside.mkdir()
    (outside / "data.txt").write_text("mine")
    (work / "train.py").write_text(
        "assert open('../outside/data.txt').read() == 'mine'\nmode = 'w'\n"
        "open('../outside/data.txt', mode)\n"
    )
    done = candle("check", "--json", "train.py", cwd=work)
    assert codes(done) == {(3, "write-elsewhere")}
    assert (outside / "data.txt").read_text() == "mine"


def test_nothing_elsewhere_is_made_or_removed(candle, tmp_path):
    work, outside = tmp_path / "work", tmp_path / "outside"
    work.mkdir()
    (outside / "sub").mkdir(parents=True)
    (outside / "x").write_text("mine")
    calls = [
        f"os.remove({str(outside / 'x')!r})",
        f"os.rename('train.py', {str(outside / 'y')!r})",
        f"shutil.rmtree({str(outside / 'sub')!r})",
        f"os.mkdir({str(outside / 'new')!r})",
        f"pathlib.Path({str(outside / 'x')!r}).unlink()",
    ]
    lines = "\n".join(f"with contextlib.suppress(OSError): {call}" for call in calls)
    (work / "train.py").write_text(f"import contextlib, os, pathlib, shutil\n{lines}\n")
    done = candle("check", "--json", "train.py", cwd=work)
    assert {(line, "write-elsewhere") for line in range(2, 7)} <= codes(done)
    assert sorted(os.listdir(outside)) == ["sub", "x"]
    assert sorted(os.listdir(work)) == ["train.py"]


def test_a_folder_that_is_too_large_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(folder_copy, "MOST_BYTES", 10)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("print('more than ten bytes')\n")
    assert main(["check", "--json", "train.py"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding["code"] == "dry-run-left-out"
    assert "holds more than" in finding["what"]


def test_a_copy_has_what_the_folder_has(tmp_path):
    folder, empty = tmp_path / "a" / "folder", tmp_path / "copy"
    (folder / "sub" / "empty").mkdir(parents=True)
    empty.mkdir()
    (folder / "sub" / "x.txt").write_text("x")
    (folder / "link").symlink_to("sub/x.txt")
    (folder / ".git").mkdir()
    (tmp_path / "a" / "beside.txt").write_text("y")
    copy = folder_copy.copy_of_folder(folder, empty)
    assert sorted(p.relative_to(copy) for p in copy.rglob("*")) == sorted(
        map(Path, (".git", "link", "sub", "sub/empty", "sub/x.txt"))
    )
    assert (copy / ".." / "beside.txt").read_text() == "y"
    (copy / "sub" / "x.txt").write_text("changed")
    assert (folder / "sub" / "x.txt").read_text() == "x"
