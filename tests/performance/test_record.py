"""The record of a training says where its time went, and what limits it."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import keras_candle as candle
from tests.performance import jobs

MEASURED = jobs.EPOCHS * jobs.STEPS - 1  # the first step compiles


@pytest.mark.parametrize(
    ("slow", "part", "says"),
    [
        ("data", "input_wait", "input-bound"),
        ("model", "compute", "compute-bound"),
        ("callback", "callbacks", "callback-bound"),
    ],
)
def test_what_is_slow_is_named(tmp_path, slow, part, says):
    record = jobs.train(tmp_path, slow)
    assert record["verdict"].startswith(says)
    assert max(record["split"], key=record["split"].get) == part


def test_a_slow_engine_is_named(ranks, tmp_path):
    record = ranks(2).run(jobs.train, run=str(tmp_path), slow="engine")[0]
    assert record["verdict"].startswith("communication-bound")
    whole_s = record["steps"] * record["step_ms"]["mean"] / 1000
    assert record["split"]["communication"] * whole_s >= MEASURED * jobs.PAUSE_S


def test_a_slow_rank_is_named(ranks, tmp_path):
    record = ranks(2).run(jobs.train, run=str(tmp_path), slow="rank 1")[0]
    assert record["verdict"].startswith("uneven")
    assert "for rank 1" in record["verdict"]


@pytest.mark.parametrize("engine", ["mpi", "horovod"])
def test_ranks_count_together(ranks, tmp_path, engine):
    record = ranks(2).run(jobs.train, run=str(tmp_path), engine=engine)[0]
    assert record["ranks"] == 2
    assert record["samples"] == 2 * MEASURED * jobs.BATCH
    assert record["global_batch_rows"] == 2 * jobs.BATCH
    assert len(record["samples_per_s_by_rank"]) == 2
    assert 0 < record["split"]["communication"] < 1
    assert sum(record["split"].values()) == pytest.approx(1, abs=0.01)


def test_what_is_there_and_what_is_not(tmp_path):
    record = jobs.train(tmp_path, validation_split=0.25)
    train_rows = int(0.75 * jobs.BATCH * jobs.STEPS)
    assert record["samples"] == jobs.EPOCHS * train_rows - jobs.BATCH
    assert record["parameters"] == 4 * 3 + 3 + 3 + 1
    assert record["flops_per_step"] == 3 * 2 * (4 * 3 + 3 * 1) * record["global_batch_rows"]
    assert record["time_s"]["evaluation"] > 0
    assert not {"gpu", "utilisation", "scaling_efficiency"} & set(record)
    assert "device_peak_bytes" not in record["memory"]
    assert set(record["split"]) <= set(record["measured"])


def test_several_steps_in_one_call(tmp_path):
    record = jobs.train(tmp_path, steps_at_once=4)
    assert record["steps"] == jobs.EPOCHS * jobs.STEPS - 4
    assert record["samples"] == record["steps"] * jobs.BATCH
    assert "input_wait" not in record["split"]
    assert record["measured"]["input_wait"].startswith("not measured")


def test_without_a_graph(tmp_path):
    keras.config.disable_traceback_filtering()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    x = np.ones((40, 4))
    model.fit(x, x[:, :1], batch_size=8, verbose=0, callbacks=[candle.CandleCallback(tmp_path)])
    record = json.loads((tmp_path / "performance.json").read_text())
    assert (record["steps"], record["samples"]) == (4, 32)
    assert "verdict" in record


@pytest.mark.parametrize("engine", ["mpi", "horovod"])
def test_with_op_determinism_what_has_no_clock_is_not_measured(ranks, tmp_path, engine):
    record = ranks(2).run(jobs.train_deterministically, run=str(tmp_path), engine=engine)[0]
    assert record["samples"] == 2 * MEASURED * jobs.BATCH
    assert "counted" in record["measured"]["samples"]
    assert set(record["split"]) == {"compute", "callbacks", "checkpoint"}
    for name in ("input_wait", "communication"):
        assert "enable_op_determinism" in record["measured"][name]


def test_beside_a_run_on_one_rank(ranks, tmp_path):
    single = jobs.train(tmp_path / "one")
    record = ranks(2).run(jobs.train, run=str(tmp_path / "two"))[0]
    assert record["scaling_from"] == "one"
    ideal = 2 * single["samples_per_s"]
    assert record["scaling_efficiency"] == pytest.approx(record["samples_per_s"] / ideal, abs=1e-4)


@pytest.mark.parametrize("ranks_", [1, 2])
def test_a_finished_run_that_is_started_again_keeps_its_record(ranks, tmp_path, ranks_):
    records = ranks(ranks_).run(jobs.train_again, run=str(tmp_path))[0]
    assert records[0]["steps"] == MEASURED
    assert records[0] == records[1]


def test_each_epoch_stands_in_the_journal(tmp_path, capsys):
    jobs.train(tmp_path, epochs=3, verbose=2)
    lines = list(map(json.loads, (tmp_path / "journal.jsonl").read_text().splitlines()))
    assert [each["event"] for each in (lines[0], lines[-1])] == ["begin", "end"]
    epochs = [each["performance"] for each in lines if each["event"] == "epoch"]
    assert len(epochs) == 3
    assert all(each["samples_per_s"] > 0 for each in epochs)
    assert capsys.readouterr().err.count("samples/s on 1 rank") == 1
