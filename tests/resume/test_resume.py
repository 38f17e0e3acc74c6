"""Save, kill, go on: it ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_candle as candle
from tests.callback import cases
from tests.callback.training_job import train
from tests.training.jobs import JOBS


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("arrays", "rich"),
        ("dataset", "rich"),
        ("infinite", "schedule"),
        ("pydataset", "plain"),
        ("generator", "plain"),
    ],
)
def test_one_rank_interrupted_twice(tmp_path, data, kind):
    how = {"data": data, "kind": kind, "every_steps": 3}
    assert cases.differences(tmp_path, kills=(5, 11), **how) == []


def test_epochs_that_are_parts_of_a_pass_lose_no_step_and_say_what_they_repeat(tmp_path, capsys):
    how = {"data": "half passes", "kind": "plain", "every_steps": 1}
    whole = train(tmp_path / "whole", **how)
    cases.interrupt(tmp_path / "parts", 5, **how)
    parts = train(tmp_path / "parts", **how)
    assert parts["batches"] == whole["batches"] == 12
    assert "this pass begins anew" in capsys.readouterr().err
    # In a pass's first epoch nothing has to be repeated.
    cases.interrupt(tmp_path / "first", 2, **how)
    assert train(tmp_path / "first", **how) == whole


def test_a_later_fit_on_the_same_dataset_reads_it_in_the_same_order(tmp_path):
    x = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")

    def fit_twice(run, fail_in=None):
        cases.forget_fits()
        keras.utils.set_random_seed(1)
        data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).shuffle(24, seed=5).batch(4)
        model, histories = cases.small_model(), []
        for number in range(2):
            callbacks = [candle.CandleCallback(tmp_path / run)]
            if number == fail_in:
                callbacks.append(cases.fail_in_epoch(1))
            histories.append(model.fit(data, epochs=2, verbose=0, callbacks=callbacks).history)
        return histories

    with pytest.raises(ZeroDivisionError):
        fit_twice("parts", fail_in=1)
    assert fit_twice("parts") == fit_twice("whole")


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize(("data", "kind"), [("arrays", "rich"), ("dataset", "rich")])
def test_ranks_interrupted_twice(ranks, engine, size, data, kind, tmp_path):
    how = {"folder": str(tmp_path), "data": data, "kind": kind, "every_steps": 2, "epochs": 3}
    for found in ranks(size).run(cases.differences, engine=engine, kills=(4, 6), **how):
        assert found == []


@pytest.mark.parametrize("data", ["pydataset", "generator"])
def test_ranks_interrupted_with_data_that_are_python_code(ranks, data, tmp_path):
    how = {"folder": str(tmp_path), "data": data, "kind": "plain", "every_steps": 2}
    for found in ranks(2).run(cases.differences, kills=(4, 6), **how):
        assert found == []


def test_the_process_that_goes_on_may_have_another_seed(tmp_path):
    found = cases.differences(tmp_path, kills=(5, 11), seeds=(1, 7, 9), every_steps=3)
    assert found == []


@pytest.mark.parametrize("size", [2, 3])
def test_rows_that_each_rank_pads_to_another_length(ranks, size, tmp_path):
    for whole, parts in ranks(size).run(cases.padded_to_own_length, folder=tmp_path, size=size):
        assert parts[-2:] == whole[-2:]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_another_number_of_ranks_goes_on_with_the_same_global_batches(
    ranks, before, after, tmp_path
):
    options = {"batch": "global", "learning_rate_scaling": None}
    how = {"kind": "plain", "every_steps": 3, "options": options}
    whole = train(tmp_path / "whole", **how)
    run = str(tmp_path / "parts")
    ranks(before).run(cases.interrupt, run=run, kill=5, **how)
    for found in ranks(after).run(train, run=run, **how):
        assert cases.same_weights(whole, found, 2e-6)
        assert found["history"]["loss"] == pytest.approx(whole["history"]["loss"], rel=1e-5)


def test_killed_by_the_system_and_started_again(ranks, tmp_path):
    how = {"every_steps": 1, "kind": "plain", "epochs": 3}

    def start(*options, **more):
        given = {"run": str(tmp_path / "parts"), "out": str(tmp_path / "parts.json"), **how, **more}
        job = ["-m", "keras_candle.launch.cli", "run", "-np", "2", "--engine", "mpi"]
        return subprocess.run(
            [
                sys.executable,
                *job,
                *options,
                "-m",
                "tests.callback.training_job",
                json.dumps(given),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
            capture_output=True,
            text=True,
            timeout=100,
        )

    stopped = start(kill=[3, "SIGTERM"])
    assert stopped.returncode == 75
    assert "SIGTERM: saved at step " in stopped.stderr
    killed = start("--max-restarts", "2", kill=[9, "SIGKILL"])
    assert killed.returncode == 0, killed.stderr
    assert "was killed by SIGKILL" in killed.stderr
    assert killed.stderr.count("started again (1 of at most 2) from the checkpoint of step ") == 1
    parts = json.loads((tmp_path / "parts.json").read_text())
    whole = ranks(2).run(train, run=tmp_path / "whole", **how)[0]
    assert parts == json.loads(json.dumps(whole))
