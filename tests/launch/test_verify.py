"""`candle verify` on real jobs: each program runs on 1 rank and on 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

# 101 rows in batches of 7: nothing that 2 ranks can divide evenly. No seed: verify gives one.
HEAD = """
import keras, numpy as np, tensorflow as tf
import keras_candle as candle

x = np.random.default_rng().normal(size=(101, 8)).astype("float32")
y = (x.sum(1) > 0).astype("float32")

def dense(name, *between, kind=keras.Sequential):
    layers = [keras.Input((8,)), keras.layers.Dense(6, "tanh", name="first"), *between]
    model = kind([*layers, keras.layers.Dense(1, "sigmoid", name="second")], name=name)
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", metrics=["auc"])
    return model

def fit(model, *callbacks):
    settings = {"batch_size": 7, "epochs": 3, "validation_split": 0.2, "verbose": 0}
    model.fit(x, y, **settings, callbacks=list(callbacks))
"""
EXPLAINED = """
fit(candle.scalable(warmup_epochs=3)(dense)("plain"), candle.CandleCallback("run"))
model = candle.scale(dense("by_batch"))
for start in range(0, 35, 7):
    model.train_on_batch(x[start:start + 7], y[start:start + 7])
fit(candle.scalable(dense)("with_dropout", keras.layers.Dropout(0.5)))
model.evaluate(x, y, verbose=0)
"""
DIFFERENT = """
class Wrong(keras.Sequential):
    def train_step(self, data):
        with tf.GradientTape() as tape:
            predictions = self(data[0], training=True)
            loss = self.compute_loss(data[0], data[1], predictions)
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients[2] = gradients[2] * candle.size()
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.compute_metrics(data[0], data[1], predictions)

fit(candle.scalable(dense)("wrong", kind=Wrong))
x[3:] += candle.size()
fit(candle.scalable(dense)("wrong_data"))
fit(dense("alone"))
"""
UNEDITED = """
model = dense("unedited", keras.layers.BatchNormalization(), keras.layers.Dropout(0.5))
fit(model)
with open("score.txt", "w") as file:
    file.write(str(model.evaluate(x, y, verbose=0)))
model.save("model.keras")
fit(keras.models.load_model("model.keras"))
"""


@pytest.fixture
def verify(candle, script, tmp_path):
    """Verifies a program on 2 ranks; returns what was said and the JSON."""

    def run(body, *options):
        program = script(HEAD + body)
        file = tmp_path / "told.json"
        file.write_text("{}")
        done = candle(
            *("verify", "-np", "2", "--engine", "mpi", "--json", str(file), *options, program),
            timeout_s=180,
        )
        assert done.returncode in (0, 1), done.stderr
        told = json.loads(file.read_text())
        assert told, done.stderr
        assert done.stdout.splitlines()[-1 - len(told["sentences"])] == told["verdict"]
        return done, told

    return run


def test_dropout_explains_a_difference_and_the_rest_is_equal(verify, tmp_path):
    done, told = verify(EXPLAINED, "--epochs", "2")
    trainings = told["trainings"]
    assert [each["verdict"] for each in trainings] == ["EQUAL", "EQUAL", "EXPLAINED", "EQUAL"]
    assert (done.returncode, told["verdict"]) == (0, "EXPLAINED")
    assert "Dropout 'dropout' drew at random" in told["sentences"][0]
    assert "exit code 0" in told["sentences"][1]
    plain = trainings[0]
    assert [each["when"] for each in plain["weights"]] == (
        ["start", "step 1", "epoch 1", "epoch 2", "end"]
    )
    assert plain["same_data"]
    assert plain["weights"][-1]["change"] > 0.01
    assert len(plain["metrics"]) == 2
    assert not (tmp_path / "run").exists()


def test_a_wrong_gradient_wrong_data_and_a_model_that_is_not_scaled_are_found(verify):
    done, told = verify(DIFFERENT)
    assert (done.returncode, told["verdict"]) == (1, "DIFFERENT")
    first, *others = told["sentences"]
    assert "second/kernel differs by" in first
    assert "after step 1" in first
    assert any("Wrong.train_step is not Keras's own" in each for each in others)
    assert any("'alone'" in each and "the model was not scaled" in each for each in others)
    assert any("wrong_data" in each and "the data differ" in each for each in others)


def test_an_unedited_program_with_dropout_can_be_compared_exactly(verify):
    done, told = verify(UNEDITED, "--auto", "--exact", "--epochs", "2")
    assert (done.returncode, told["verdict"]) == (0, "EQUAL")
    assert [each["title"].split()[0] for each in told["trainings"]] == ["fit", "evaluate", "fit"]
    assert all(each["ranks_equal"] for each in told["trainings"])


CAUSES = """
sys.path.insert(0, ROOT)
from tests.verification import verdict_cases
verdict_cases.CASE()
"""


@pytest.mark.parametrize(
    ("case", "verdict", "cause"),
    [
        ("vae", "EXPLAINED", "Sampling 'sampling' by RandomStandardNormal drew without a seed"),
        ("contrastive", "DIFFERENT", "the loss of Contrastive.train_step depends on several rows"),
        ("graph", "NOT DIVISIBLE", "the first axis of its data is not rows"),
    ],
)
def test_the_command_names_a_cause(verify, case, verdict, cause):
    root = str(Path(__file__).parents[2])
    done, told = verify(CAUSES.replace("ROOT", repr(root)).replace("CASE", case))
    assert told["verdict"] == verdict
    assert cause in told["sentences"][0]
    assert done.returncode == (verdict != "EXPLAINED")
    assert "Graph execution error" not in done.stdout + done.stderr


def test_a_program_without_keras(candle, script):
    done = candle("verify", "-np", "2", script("print('said')\n"))
    assert (done.returncode, done.stdout.splitlines()[2]) == (1, "NOTHING RECORDED")
    assert "1 rank and 2 ranks" in done.stdout.splitlines()[0]
    assert "said" not in done.stdout


def test_a_program_that_fails_on_several_ranks_is_reported_once_with_its_code(candle, script):
    program = script("size = int(os.environ['PMI_SIZE'])\nif size > 1: sys.exit('no room')\n")
    done = candle("verify", "-np", "2", program)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("no room") == 1
    assert done.stderr.endswith("it failed on 2 ranks, so there is nothing to compare\n")


def test_a_program_that_hangs_is_stopped(candle, script):
    done = candle("verify", "-np", "2", "--timeout", "1", script("time.sleep(60)\n"))
    assert done.returncode == 2
    assert "did not end within 1 s" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x.py",), "candle verify got no number of ranks"),
        (("-np", "1", "-m", "x"), "-np got 1"),
        (("-np", "2"), "candle verify got no script"),
        (("-np", "2", "--tolerance", "0", "-m", "x"), "--tolerance got 0"),
        (("-np", "2", "--epochs", "-1", "-m", "x"), "--epochs got -1"),
        (("-np", "2", "--json", "gone/told.json", "-m", "x"), "its folder does not exist"),
    ],
)
def test_bad_usage_is_one_sentence(candle, arguments, words):
    done = candle("verify", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
