"""MLflow on a real server and in SQLite: every name, every kill, every server that is none."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest

from keras_candle.trackers.base import make
from keras_candle.trackers.mlflow import Mlflow
from tests.trackers.cases import ROWS, mute_server, note, reconcile, run_in, track
from tests.trackers.mlflow_server import ANSWERS, answering
from tests.trackers.readers import mlflow_runs, read

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
NAMES = [
    *["a//b", "a/b", "/a/b", "a/b/", "a/./b", "a/../b", "..", ".", "", "c:d", "c;d", "c_d", "c,d"],
    *["x" * 249, "x" * 250, "x" * 251, "x" * 1000, "x" * 999 + "y", "y/" * 500],
    *["line\n", "line", "é/日本", "e\u0301", "\U0001f600", "\udc80", "\0", " ", "a@b(c)"],
]
EXPERIMENT = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A file with all tables, whose creation takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    make("mlflow").start(run_in(folder))
    return folder / "mlflow.db"


@pytest.fixture(params=["file", "server"])
def uri(request, tmp_path, monkeypatch):
    """Where the runs are: in a file of the run directory, and on the server."""
    if request.param == "file":
        shutil.copy(request.getfixturevalue("empty"), tmp_path)
        return f"sqlite:///{tmp_path}/mlflow.db"
    found = request.getfixturevalue("server").uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    return found


def given(tmp_path, rows, said, tracker=None):
    """A run with these rows, from its start to its end."""
    note(tmp_path, rows)
    assert reconcile(tmp_path, tracker or make("mlflow"), said, within_s=60)


def starts(kind, *directories, **environment):
    """See mlflow_starts."""
    subprocess.run(
        [sys.executable, "-m", "tests.trackers.mlflow_starts", kind, *directories],
        check=True,
        cwd=os.environ["PWD"],
        env={**os.environ, **environment},
        timeout=120,
    )


def test_every_name_is_a_metric_of_its_own_over_all_starts(tmp_path, uri):
    said, values = [], {name: float(number) for number, name in enumerate(NAMES)}
    given(tmp_path, {4: {"epoch": 1, **values}}, said)
    first = read("mlflow", tmp_path, uri)[4]
    given(tmp_path, {8: {"epoch": 2, **values}}, said)
    assert sorted(first.values()) == sorted([1.0, *values.values()])
    assert read("mlflow", tmp_path, uri) == {4: first, 8: {**first, "epoch": 2}}
    assert {"a/b", "c:d", "c_d", "line", " "} <= set(first)
    assert (mlflow_runs(tmp_path, uri)[1][0].info.status, said) == ("FINISHED", [])


def test_parameters_of_every_name_are_kept(tmp_path, uri):
    named = {name: {"value": str(number)} for number, name in enumerate(NAMES)}
    for _ in range(2):
        run = run_in(tmp_path, config={**named, "empty": "", "long": "x" * 9999})
        track(make("mlflow"), run, {})
    params = mlflow_runs(tmp_path, uri)[1][0].data.params
    numbers = sorted(int(each) for each in params.values() if each.isdigit())
    assert numbers == list(range(len(NAMES)))
    assert len(params) == len(NAMES) + 2


def test_a_row_has_the_time_at_which_it_was_noted(tmp_path, uri, monkeypatch):
    with monkeypatch.context() as then:
        then.setattr("time.time", lambda: 1e9)
        note(tmp_path, ROWS)
    given(tmp_path, {}, [])
    client, (run,) = mlflow_runs(tmp_path, uri)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [each.timestamp for each in history] == [10**12] * len(ROWS)


def test_400_late_epochs_are_few_requests(tmp_path, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    rows = {4 * n: {"epoch": n, "loss": 1 / n, "accuracy": 1 - 1 / n} for n in range(1, 401)}
    before = server.asked("/runs/log-batch ")
    given(tmp_path, rows, [])
    assert server.asked("/runs/log-batch ") - before == 2  # 1200 metrics
    assert make("mlflow").start(run_in(tmp_path)) == 1600


def test_an_epoch_of_more_metrics_than_a_request_takes_is_whole(tmp_path, empty):
    shutil.copy(empty, tmp_path)
    row = {"epoch": 1, **{f"metric_{number}": number / 7 for number in range(1001)}}
    given(tmp_path, {4: row}, [])
    assert read("mlflow", tmp_path) == {4: row}


@pytest.mark.parametrize("how", ["set_experiment", *EXPERIMENT])
@pytest.mark.parametrize("where", ["server", "file"])
def test_the_experiment_is_the_users(tmp_path, server, empty, monkeypatch, how, where):
    import mlflow

    monkeypatch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
    for name in EXPERIMENT:
        monkeypatch.setenv(name, "")
    uri = server.uri if where == "server" else f"sqlite:///{shutil.copy(empty, tmp_path)}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client, name = mlflow.MlflowClient(uri), f"{how} {tmp_path.name}"
    if how == "set_experiment":
        mlflow.set_experiment(name)
    elif how == "MLFLOW_EXPERIMENT_ID":
        monkeypatch.setenv(how, client.create_experiment(name))
    else:
        monkeypatch.setenv(how, name)
    track(make("mlflow"), run_in(tmp_path), ROWS)
    assert len(client.search_runs([client.get_experiment_by_name(name).experiment_id])) == 1


def test_an_experiment_of_mlflows_own_default_store_is_found_there(tmp_path, monkeypatch, empty):
    import mlflow

    monkeypatch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")
    shutil.copy(empty, tmp_path)
    mlflow.set_experiment("theirs")
    (tmp_path / "run").mkdir()
    track(make("mlflow"), run_in(tmp_path / "run"), ROWS)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    assert read("mlflow", tmp_path) == ROWS


def test_files_that_the_store_does_not_take_cost_the_files_alone(tmp_path):
    said = []
    (tmp_path / "mlflow-files").write_text("no folder")
    (tmp_path / "performance.json").write_text("{}")
    given(tmp_path, ROWS, said)
    assert read("mlflow", tmp_path) == ROWS
    assert mlflow_runs(tmp_path)[1][0].info.status == "FINISHED"
    (text,) = said
    assert "has the run's metrics, but does not take performance.json (" in text


def test_starts_that_are_killed_while_they_create_the_file_leave_one_that_can_be_used(tmp_path):
    starts("kill", str(tmp_path))
    assert track(make("mlflow"), run_in(tmp_path), ROWS) == -1
    assert read("mlflow", tmp_path) == ROWS


@pytest.mark.parametrize("where", ["", "sqlite:///{}/shared.db", "server"])
def test_two_roots_of_a_search_may_begin_at_once(tmp_path, monkeypatch, server, where):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    trials = [tmp_path / "first", tmp_path / "second"]
    for each in trials:
        each.mkdir()
    uri = server.uri if where == "server" else where.format(tmp_path)
    starts("race", *map(str, trials), MLFLOW_TRACKING_URI=uri)
    _, runs = mlflow_runs(tmp_path, uri)
    assert sorted(each.info.run_name for each in runs) == ["first", "second", tmp_path.name]


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_server_that_is_none_is_one_sentence(tmp_path, monkeypatch, kind):
    said = []
    with answering(*ANSWERS[kind]) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        given(tmp_path, ROWS, said)
    (text,) = said
    assert text.startswith("Mlflow does not take the run's metrics (")
    assert "\n" not in text


def test_a_proxy_that_hangs_is_given_up_after_the_time_that_is_asked_for(tmp_path, monkeypatch):
    said = []
    with mute_server() as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        given(tmp_path, ROWS, said, Mlflow(request_s=1))
    (text,) = said
    assert "timeout=1)" in text


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    said = []
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    given(tmp_path, ROWS, said)
    (text,) = said
    assert "FileExistsError" in text


@pytest.mark.parametrize("uri", ["", "sqlite:///{}/mlflow.db"])
def test_a_file_that_was_left_half_made_is_replaced_where_it_is_ours(tmp_path, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE runs (run_uuid TEXT)")
    said = []
    given(tmp_path, ROWS, said, Mlflow(create_s=0))
    if uri:
        assert "mlflow.db has no runs, and not the tables" in said[0]
    else:
        assert (read("mlflow", tmp_path), said) == (ROWS, [])
