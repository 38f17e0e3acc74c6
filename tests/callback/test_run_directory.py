"""What a run directory tells beside the checkpoints: config.json, assets, the guard's ranks."""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.checkpoints.folder import CheckpointFolder
from keras_candle.cluster.job_folder import JobFolder
from keras_candle.engine.single import SingleEngine
from keras_candle.errors import CandleError, DivergenceError
from keras_candle.performance.record import earlier_rank_s
from keras_candle.resume.run_session import RunSession
from keras_candle.run_directory import RunDirectory
from tests.callback import cases
from tests.trackers.cases import room_for


def test_config_json_has_what_was_asked_for_with_all_defaults(tmp_path):
    cases.small_fit(tmp_path, checkpoint=candle.Checkpoint(every_steps=7), walltime=1e6)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["callback"]["checkpoint"]["every_steps"] == 7
    assert config["callback"]["checkpoint"]["keep_last"] == 3
    assert config["callback"]["walltime"] == 1e6
    assert config["callback"]["stall_timeout"] == "auto"
    assert config["fit"]["batch_size"] == 4
    assert (config["ranks"], config["engine"]) == (1, "single")
    assert config["versions"]["keras"] == keras.__version__


def test_config_json_has_numpys_numbers_as_numbers(tmp_path):
    x, durable = np.ones((8, 3)), candle.CandleCallback(tmp_path)
    cases.small_model().fit(x, x[:, :1], batch_size=np.int64(4), verbose=0, callbacks=[durable])
    assert json.loads((tmp_path / "config.json").read_text())["fit"]["batch_size"] == 4


def test_a_run_and_its_submitted_job_name_each_other(tmp_path, monkeypatch):
    run, job = tmp_path / "run", JobFolder(tmp_path / "job")
    job.path.mkdir()
    job.write_facts({"scheduler": "slurm", "id": "7"})
    monkeypatch.setenv("KERAS_CANDLE_JOB", str(job.path))
    monkeypatch.setenv("KERAS_CANDLE_ELEMENT", "2/6")
    cases.small_fit(run)
    assert json.loads((run / "job.json").read_text()) == {
        "folder": str(job.path),
        "id": "7",
        "element": 2,
    }
    cases.small_fit(run)
    assert job.run_directories() == [run]
    # Continued by hand, it is the job's no more.
    monkeypatch.delenv("KERAS_CANDLE_JOB")
    cases.small_fit(run)
    assert not (run / "job.json").exists()


def test_a_job_whose_folder_is_gone_trains_and_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_CANDLE_JOB", str(tmp_path / "gone"))
    cases.small_fit(tmp_path / "run")
    assert "The submitted job is not recorded" in capsys.readouterr().err


def fit_with_a_rule(run):
    model = cases.small_model(learning_rate_scaling=cases.half)
    cases.small_fit(run, model)
    return json.loads((run / "config.json").read_text())


def test_config_json_of_a_scaled_model(ranks, tmp_path):
    config = ranks(2).run(fit_with_a_rule, run=tmp_path)[0]
    assert config["scalable"]["learning_rate_scaling"] == "half"
    assert (config["ranks"], config["engine"]) == (2, "mpi")


def test_a_vocabulary_is_in_the_checkpoint(tmp_path):
    words = keras.layers.TextVectorization(output_sequence_length=4)
    words.adapt(np.array(["one two", "two three four"]))
    model = keras.Sequential(
        [
            keras.Input((1,), dtype="string"),
            words,
            keras.layers.Embedding(9, 2),
            keras.layers.Flatten(),
        ]
    )
    model.compile("sgd", "mse")
    x = np.array([["one four"], ["three"]], dtype=object)
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors((tf.constant(x, tf.string), tf.zeros((2, 8))))
    model.fit(data, verbose=0, callbacks=[candle.CandleCallback(tmp_path)])
    folder = tmp_path / "checkpoints/last"
    loaded = keras.saving.load_model(folder)
    np.testing.assert_array_equal(loaded.predict(tf.constant(x)), model.predict(tf.constant(x)))
    vocabulary = next(folder.rglob("vocabulary.txt"))
    vocabulary.write_text(vocabulary.read_text().replace("three", "thrae"))
    damage = CheckpointFolder(tmp_path / "checkpoints").find_damage(1)
    assert any("vocabulary.txt" in each for each in damage)


class Drifts(keras.callbacks.Callback):
    """Lets rank 1 have weights of its own."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 3 and candle.rank() == 1:
            self.model.weights[0].assign_add([[1.0], [0.0], [0.0]])


def drift(run, guard, of_model):
    model = cases.small_model(guard=of_model)
    cases.small_fit(run, model, rows=80, epochs=1, callbacks=[Drifts()], guard=guard)


@pytest.mark.parametrize(("guard", "of_model"), [(True, True), (True, False), (5, False)])
def test_the_guard_names_what_differs(ranks, guard, of_model, tmp_path):
    with pytest.raises(Exception, match="kernel") as raised:
        ranks(2).run(drift, run=tmp_path, guard=guard, of_model=of_model)
    assert DivergenceError.__name__ in str(raised.value) or raised.type is DivergenceError


def test_without_a_guard_nothing_is_compared(ranks, tmp_path):
    ranks(2).run(drift, run=tmp_path, guard=False, of_model=True)


def test_a_guard_that_is_none(tmp_path):
    with pytest.raises(CandleError, match="guard='often', expected True, False or a number"):
        candle.CandleCallback(tmp_path, guard="often")


def test_a_monitor_that_is_not_in_the_logs_is_told_once(tmp_path, capsys):
    options = candle.Checkpoint(monitor="val_auc")
    cases.small_fit(tmp_path, epochs=3, checkpoint=options)
    told = capsys.readouterr().err
    assert told.count("'val_auc') is not in the epoch's logs") == 1
    assert "Where no epoch has it, use one of loss." in told
    shutil.rmtree(tmp_path)
    cases.small_fit(tmp_path, epochs=1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("room_bytes", [0, 30])
def test_lines_of_a_full_disk_come_when_there_is_room(tmp_path, capsys, room_bytes):
    run = RunSession(tmp_path, SingleEngine())
    run.log_event("epoch", epoch=1)
    with room_for(run.directory.journal.stat().st_size + room_bytes):
        run.log_event("epoch", epoch=2)
        run.log_event("epoch", epoch=3)
    run.log_event("epoch", epoch=4)
    assert [each["epoch"] for each in run.directory.events()] == [1, 2, 3, 4]
    told = capsys.readouterr().err
    assert told.count("journal.jsonl cannot be written") == 1
    assert "The training continues" in told


def test_the_ends_of_attempts_are_the_same_without_the_epochs_between(tmp_path):
    run = RunDirectory(tmp_path)
    for attempt, epochs in enumerate((5, 0, 1, 40)):
        run.log_event("begin", time_s=100.0 * attempt, ranks=2)
        for epoch in range(epochs):
            run.log_event("epoch", time_s=100.0 * attempt + epoch, epoch=epoch)
        with open(run.journal, "a") as file:
            file.write('{"time_s": 1.0, "event": "epo')
    few, all_ = run.events_of_attempts(), run.events()
    assert earlier_rank_s(few) == earlier_rank_s(all_) == 2 * (4 + 0 + 0 + 39)
    assert len(few) < 15 < len(all_)


def test_lines_that_are_no_events_are_left_out(tmp_path):
    run = RunDirectory(tmp_path)
    run.log_event("begin", ranks=2)
    with open(run.journal, "ab") as file:
        file.write(b'5\n[1]\n{"event": "epoch"}\n\xff\xfe\n' + b"[" * 100_000 + b"\n" + b'{"ev')
    run.log_event("end")
    assert [each["event"] for each in run.events()] == ["begin", "end"]
