"""`candle verify-resume` on real jobs that are killed."""

from __future__ import annotations

import json

import pytest

HEAD = """
import keras, numpy as np
import keras_candle as candle

x = np.random.default_rng(0).normal(size=(48, 8)).astype("float32")

def dense():
    hidden = [keras.layers.Dense(4), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return candle.scale(model)

def fit(run, *callbacks, epochs=3, **cadence):
    durable = candle.CandleCallback(run, candle.Checkpoint(**cadence))
    given = {"batch_size": 8, "epochs": epochs, "verbose": 0, "callbacks": [durable, *callbacks]}
    return dense().fit(x, x[:, 0], **given)
"""
SEEDED = """
fit("runs/first", every_steps=2)
history = fit(os.path.abspath("../outside"), epochs=2).history
with open("history.json", "w") as file:
    file.write(str(history))
"""
COUNTS_OUTSIDE = """
calls = 0

class Slower(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        global calls
        calls += 1
        self.model.optimizer.learning_rate = 0.1 / calls

fit("run", Slower(), every_steps=2)
"""
DRAWS_ANEW = """
x = x + np.frombuffer(os.urandom(48 * 8), np.uint8).reshape(48, 8) / np.float32(256)
fit("run", every_steps=2)
"""


@pytest.fixture
def verify(candle, script, tmp_path):
    """Verifies a program in a folder of its own; returns what was said and the JSON."""

    def run(body, *options):
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        program = script(HEAD + body, "project/program.py")
        file = tmp_path / "told.json"
        done = candle(
            *("verify-resume", "--engine", "mpi", "--seed", "5", "--timeout", "100"),
            *("--json", str(file), *options, program.removeprefix("project/")),
            timeout_s=250,
            cwd=folder,
            OMP_NUM_THREADS="1",
        )
        assert file.exists(), done.stderr
        told = json.loads(file.read_text())
        assert told["verdict"] in done.stdout.splitlines()
        return done, told

    return run


@pytest.mark.parametrize(("size", "kills"), [(1, 2), (2, 1)])
def test_a_training_that_resumes_exactly_passes_and_the_users_files_stay(
    verify, tmp_path, size, kills
):
    users = tmp_path / "project" / "runs" / "first"
    (users / "checkpoints" / "step-00000099").mkdir(parents=True)
    (users / "journal.jsonl").write_text("{}\n")
    done, told = verify(SEEDED, "-np", str(size), "--kills", str(kills))
    assert (done.returncode, told["verdict"]) == (0, "EXACT"), done.stdout + done.stderr
    assert len(told["kills"]) == kills
    assert [each["fits"] for each in told["rounds"]] == [2] * len(told["rounds"])
    assert told["run_directories"] == ["runs/first", str(tmp_path / "outside")]
    assert {each.name for each in tmp_path.iterdir()} == {"project", "told.json"}
    assert {each.name for each in users.parent.parent.iterdir()} == {"program.py", "runs"}
    assert {each.name for each in users.iterdir()} == {"checkpoints", "journal.jsonl"}
    assert [each.name for each in (users / "checkpoints").iterdir()] == ["step-00000099"]
    assert (users / "journal.jsonl").read_text() == "{}\n"


def test_what_is_kept_in_a_global_variable_is_found_and_its_callback_named(verify):
    done, told = verify(COUNTS_OUTSIDE, "--kills", "1")
    assert (done.returncode, told["verdict"]) == (1, "NOT EXACT"), done.stdout + done.stderr
    kinds = {each["kind"] for one in told["rounds"] for each in one["differences"]}
    assert {"history", "tensor"} <= kinds
    assert "fit 1 in run: history loss of epoch" in done.stdout
    assert "Slower keeps nothing in its attributes" in done.stdout
    assert told["without_kills_again"]["differences"] == []


def test_a_program_that_draws_new_data_at_each_start_is_not_deterministic(verify):
    done, told = verify(DRAWS_ANEW, "--kills", "1")
    assert (done.returncode, told["verdict"]) == (3, "NOT DETERMINISTIC"), done.stderr
    assert "Two trainings without any kill differ already" in done.stdout
    assert "history loss of epoch 1" in done.stdout


def test_a_program_without_a_candle_callback(candle, script):
    done = candle("verify-resume", script("print('said')\n"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "calls no fit with a CandleCallback" in done.stderr.splitlines()[-1]


def test_a_program_that_fails_by_itself_ends_with_its_code(candle, script):
    done = candle("verify-resume", "-np", "2", script("sys.exit(7)\n"))
    assert (done.returncode, done.stdout) == (7, "")
    assert "it failed without being killed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "candle verify-resume got no script"),
        (("-np", "0", "-m", "x"), "-np got 0"),
        (("--kills", "0", "-m", "x"), "--kills got 0"),
        (("--timeout", "-1", "-m", "x"), "--timeout got -1"),
        (("--json", "gone/told.json", "-m", "x"), "its folder does not exist"),
    ],
)
def test_bad_usage_is_one_sentence(candle, arguments, words):
    done = candle("verify-resume", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
