"""Laws that hold for all trackers, with the real packages and their own readers."""

from __future__ import annotations

import io
import os

import pytest

from keras_candle.trackers import run_files
from keras_candle.trackers.base import make
from tests.trackers.cases import MORE, ROWS, note, reconcile, run_in, track
from tests.trackers.readers import NAMES, mlflow_runs, read, wandb_records

CONFIG = {"fit": {"epochs": 3, "batch_size": None}, "ranks": 2}
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", "/nonexistent")


@pytest.mark.parametrize("name", NAMES)
def test_what_was_logged_is_read_back_over_two_starts(tmp_path, name):
    run = run_in(tmp_path, config=CONFIG)
    assert track(make(name), run, ROWS, "failed") == -1
    assert read(name, tmp_path) == ROWS
    assert track(make(name), run, MORE) == max(ROWS)
    assert read(name, tmp_path) == {**ROWS, **MORE}
    assert track(make(name), run, {}) == max(MORE)


def test_a_late_record_of_tensorboard_has_the_time_at_which_it_was_noted(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with monkeypatch.context() as then:
        then.setattr("time.time", lambda: 1e9)
        note(tmp_path, ROWS)
    assert reconcile(tmp_path, make("tensorboard"), [])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [each.wall_time for each in events.Scalars("loss")] == [1e9] * len(ROWS)


@pytest.mark.parametrize("name", ["csv", "tensorboard", "wandb"])
@pytest.mark.parametrize("cut", [1, 11])
def test_a_file_that_a_crash_has_cut_holds_what_is_whole(tmp_path, name, cut):
    run = run_in(tmp_path)
    track(make(name), run, ROWS)
    pattern = {"csv": "log.csv", "tensorboard": "tensorboard/*", "wandb": "wandb/*/*.wandb"}[name]
    (path,) = tmp_path.glob(pattern)
    data = path.read_bytes()
    if name == "wandb":  # the last rows are followed by what the run ended with
        data = data[: data.rindex(b"val_loss")]
    path.write_bytes(data[:-cut])
    held = make(name).start(run)
    assert held == 4
    track(make(name), run, {8: ROWS[8]})
    assert read(name, tmp_path) == ROWS


def test_a_run_of_mlflow_has_its_parameters_once_and_its_status(tmp_path):
    for status, expected in (("interrupted", "KILLED"), ("finished", "FINISHED")):
        track(make("mlflow"), run_in(tmp_path, config={**CONFIG, "ranks": len(status)}), {}, status)
        _, (run,) = mlflow_runs(tmp_path)
        assert run.info.status == expected
    assert run.data.params == {
        "fit/epochs": "3",
        "fit/batch_size": "None",
        "ranks": str(len("interrupted")),
    }


def test_a_run_of_wandb_has_its_config(tmp_path):
    track(make("wandb"), run_in(tmp_path, config=CONFIG), ROWS)
    (run,) = (each["run"] for each in wandb_records(tmp_path) if each["type"] == "run")
    config = str(run["config"])
    assert "epochs" in config
    assert "ranks" in config


def test_files_are_kept(tmp_path):
    (tmp_path / "performance.json").write_text("{}")
    tracker = make("mlflow")
    tracker.start(run_in(tmp_path))
    tracker.log_file(tmp_path / "performance.json")
    tracker.close("finished")
    client, (run,) = mlflow_runs(tmp_path)
    assert [each.path for each in client.list_artifacts(run.info.run_id)] == ["performance.json"]
    assert not os.path.exists("mlruns")


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_restart_reads_only_the_end_of_what_was_written(tmp_path, monkeypatch, name):
    run, path = run_in(tmp_path), {"csv": "log.csv", "tensorboard": "tensorboard/*"}[name]
    rows = {step: {"epoch": step, "loss": 0.5, "mae": 0.25} for step in range(1, 3001)}
    track(make(name), run, rows)
    (file,) = tmp_path.glob(path)
    monkeypatch.setattr(run_files, "_BLOCK_BYTES", 64)  # smaller than a record
    read_bytes = []
    monkeypatch.setattr(run_files, "open", counting(read_bytes), raising=False)
    assert make(name).start(run) == 3000
    assert 64 < sum(read_bytes) < 5000 < file.stat().st_size


def counting(read_bytes):
    """`open`, of which every read of a file is counted."""

    class Counting(io.FileIO):
        def readinto(self, buffer):
            read_bytes.append(super().readinto(buffer))
            return read_bytes[-1]

        def readall(self):
            raise AssertionError

    return lambda path, _: io.BufferedReader(Counting(path), buffer_size=64)
