"""Through fit: each package reads back what the journal says, one run for all ranks and starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.trackers.reconciler import JournalFeed
from tests.callback import cases as fits
from tests.trackers import cases
from tests.trackers.readers import NAMES, mlflow_runs, read, wandb_records
from tests.trackers.training_job import fit

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", "/nonexistent")
    fits.forget_fits()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The run directory of two ranks, killed after an epoch that no checkpoint has, and the job."""
    run = tmp_path_factory.mktemp("killed") / "run"
    (run.parent / "tmp").mkdir()
    given = {"run": str(run), "trackers": NAMES, "kill_at": 3}
    job = [
        "-m",
        "keras_candle.launch.cli",
        "run",
        "-np",
        "2",
        "--engine",
        "mpi",
        "--max-restarts",
        "2",
    ]
    program = ["-m", "tests.trackers.training_job", json.dumps(given), "--token=hush"]
    secrets = {
        "WANDB_API_KEY": "hush" * 10,
        "WANDB_BASE_URL": f"http://127.0.0.1:{cases.refused()}",
        "DATABASE_PASSWORD": "hush",
        "TMPDIR": str(run.parent / "tmp"),
    }
    done = subprocess.run(
        [sys.executable, *job, *program],
        env={**os.environ, **secrets},
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("started again (1 of at most 2)") == 1
    return run, done


def test_killed_ranks_that_go_on_have_repeated_an_epoch(killed):
    epochs = [
        line["epoch"]
        for line in map(json.loads, (killed[0] / "journal.jsonl").read_text().splitlines())
        if line["event"] == "epoch"
    ]
    assert epochs == [1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize("name", NAMES)
def test_each_package_reads_what_the_journal_says_without_a_gap_or_a_double(killed, name):
    run, _ = killed
    journal = {row.step: row.values for row in JournalFeed(run / "journal.jsonl").rows()}
    assert [each["epoch"] for each in journal.values()] == [1, 2, 3, 4, 5]
    if name == "tensorboard":  # has 32 bits
        journal = {
            step: {key: float(np.float32(value)) for key, value in values.items()}
            for step, values in journal.items()
        }
    assert read(name, run) == journal


def test_it_is_one_run_for_all_ranks_and_starts(killed):
    run, _ = killed
    ids = {each["run"]["run_id"] for each in wandb_records(run) if each["type"] == "run"}
    assert ids == {json.loads((run / "trackers.json").read_text())["id"]}
    _, (one,) = mlflow_runs(run)
    assert one.info.status == "FINISHED"
    assert one.data.params["ranks"] == "2"
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text())
    assert state["trackers"]["id"] in ids


def test_no_secret_and_nothing_printed_is_in_any_file(killed):
    run, _ = killed
    files = [each for each in run.rglob("*") if each.is_file()]
    assert len([each for each in files if "wandb" in str(each)]) > 2
    assert [each for each in files if b"hush" in each.read_bytes()] == []


def test_packages_leave_no_temporary_files(killed):
    folder = killed[0].parent / "tmp"
    end_s = time.monotonic() + 30
    # A rank that is killed leaves some of TensorFlow's and of its launcher's.
    while left := [*folder.glob("*wandb*"), *folder.glob("*trackers*")]:
        assert time.monotonic() < end_s, left
        time.sleep(0.1)


def test_what_is_kept_offline_is_said_once_a_start_with_what_to_type(killed):
    run, done = killed
    # The first root may have been killed before it came to that.
    assert done.stderr.count("wandb: the run is kept offline") in (1, 2)
    assert f"wandb sync {run}/wandb/offline-run-*-" in done.stderr


def track(run):
    tracker = cases.Recorder()
    fit(run, [tracker, "csv"])
    return tracker.rows, tracker.status


def test_root_alone_has_trackers(ranks, tmp_path):
    (rows, status), other = ranks(2).run(track, run=str(tmp_path))
    assert dict(rows) == read("csv", tmp_path)
    assert [each["epoch"] for _, each in rows] == [1, 2, 3, 4, 5]
    assert (status, other) == ("finished", ([], None))


SERVERS = {"refused": cases.nobody, "black hole": cases.black_hole, "mute": cases.mute_server}


@pytest.mark.parametrize("server", SERVERS)
def test_a_dead_server_costs_seconds_and_a_sentence(tmp_path, monkeypatch, capfd, server):
    plain = fit(tmp_path / "plain", [])
    with SERVERS[server]() as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hush@127.0.0.1:{port}")
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        began_s = time.monotonic()
        model = fit(tmp_path / "run", ["wandb", "mlflow", "csv"])
        assert time.monotonic() - began_s < 15
    told = capfd.readouterr().err
    assert told.count("keras_candle: mlflow") == 1
    assert told.count("keras_candle: wandb") == 1
    assert "hush" not in told
    assert all(map(np.array_equal, model.get_weights(), plain.get_weights()))
    assert len(read("csv", tmp_path / "run")) == 5


def test_what_a_server_has_not_got_comes_with_the_next_start(tmp_path, monkeypatch):
    with monkeypatch.context() as dead:
        dead.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{cases.refused()}")
        fit(tmp_path, "mlflow")
    fits.forget_fits()
    fit(tmp_path, ["mlflow", "csv"], epochs=6)
    assert read("mlflow", tmp_path) == read("csv", tmp_path)
    assert len(read("csv", tmp_path)) == 6


@pytest.mark.parametrize("own", [cases.Hanging(), cases.Failing(10**9)])
def test_a_tracker_that_hangs_or_raises_stops_nothing(tmp_path, capfd, own):
    began_s = time.monotonic()
    fit(tmp_path, [own, "csv"])
    assert time.monotonic() - began_s < 15
    assert len(read("csv", tmp_path)) == 5
    assert capfd.readouterr().err.count(f"keras_candle: {type(own).__name__}") == 1


def test_a_tracker_process_that_is_killed_is_reported_and_stops_nothing(tmp_path, capfd):
    class Killing(cases.Recorder):
        def log(self, values, step):
            from keras_candle.trackers.tracker_process import shared_process

            shared_process()._process.kill()

    fit(tmp_path, ["tensorboard", Killing()])
    assert "tensorboard: the tracker process ended with exit code" in capfd.readouterr().err
    fits.forget_fits()
    fit(tmp_path, ["tensorboard", "csv"], epochs=6)
    assert len(read("tensorboard", tmp_path)) == len(read("csv", tmp_path)) == 6


@pytest.mark.parametrize(
    ("end", "status"),
    [(SystemExit(75), "interrupted"), (KeyboardInterrupt(), "interrupted"), (OSError(), "failed")],
)
def test_a_tracker_is_told_how_the_fit_ended(tmp_path, end, status):
    def stop(epoch, logs):
        raise end

    own = cases.Recorder()
    stopping = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    with pytest.raises(type(end)):
        fits.small_fit(tmp_path, callbacks=[stopping], trackers=own)
    assert own.status == status


def test_begun_anew_in_the_same_directory_it_is_another_run(tmp_path):
    for _ in range(2):
        fits.forget_fits()
        fit(tmp_path, "csv", epochs=2, resume="never")
        assert [each["epoch"] for each in read("csv", tmp_path).values()] == [1, 2]
    assert len(list(tmp_path.glob("log*.csv"))) == 2


def test_two_fits_of_a_script_are_one_run(tmp_path):
    for _ in range(2):
        fit(tmp_path, ["csv", "tensorboard"], epochs=2)
    for name in ("csv", "tensorboard"):
        assert [each["epoch"] for _, each in sorted(read(name, tmp_path).items())] == [1, 2, 1, 2]


def test_a_package_that_is_missing_is_an_error_before_the_first_step(tmp_path, monkeypatch):
    find = candle.optional.importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "wandb" else find(name, *more),
    )
    with pytest.raises(candle.CandleError, match=r"wandb is needed for .*keras-candle\[wandb\]"):
        fit(tmp_path, "wandb")
    assert not (tmp_path / "journal.jsonl").exists()


def test_where_a_program_is_only_tried_nothing_is_tracked(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_CANDLE_VERIFY", "{}")
    fit(tmp_path, ["csv", "wandb"])
    assert not (tmp_path / "log.csv").exists()
    assert not (tmp_path / "wandb").exists()
