"""MLflow: on its server, or in a SQLite file in the run directory."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from keras_candle.optional import load
from keras_candle.run_directory import create_file
from keras_candle.trackers.base import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    EpochRow,
    TimedTracker,
    TrackedRun,
    flat,
    holds,
    reach,
)

DATABASE, FILES = "mlflow.db", "mlflow-files"
_FOR = "trackers='mlflow'"
_ID, _PARENT = "keras_candle.run", "mlflow.parentRunId"
_EXPERIMENT = "keras_candle"
_STATUS = {FINISHED: "FINISHED", FAILED: "FAILED", INTERRUPTED: "KILLED"}
_LONGEST_VALUE, _LONGEST_NAME = 500, 250
_MOST_METRICS, _MOST_PARAMS = 1000, 100
# The last metric of an epoch that is logged: where it exists, the epoch is complete.
_MARK = "epoch"
T = TypeVar("T")


class Mlflow(TimedTracker):
    """Logs to one MLflow run, found by its tag; trials are nested in the run of their search.

    Args:
        request_s: timeout of a request to a server; each is tried twice.
        create_s: how long to wait for another program that creates the same SQLite file.
    """

    def __init__(self, request_s: int = 10, create_s: float = 20.0) -> None:
        self._request_s, self._create_s = request_s, create_s

    def start(self, run: TrackedRun) -> int:
        """Find or create the run."""
        self._set_environment()
        self._run = run
        uri = self._store()
        file = _sqlite_file(uri)
        # The roots of a search must not create the same file or run at the same time.
        shared = file or (run.home / DATABASE if run.group else None)
        with contextlib.nullcontext() if shared is None else _locked(shared):
            if file is not None:
                self._complete(file)
            self._client = self._mlflow.MlflowClient(uri)
            self._experiment = self._find_experiment()
            self._parent = self._find(run.group, run.home.name) if run.group else None
            tags = {_PARENT: self._parent} if self._parent else {}
            self._id = self._find(run.id, run.name, tags)
        self._client.update_run(self._id, status="RUNNING")
        history = self._client.get_metric_history(self._id, _MARK)
        return max((each.step for each in history), default=-1)

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Log new parameters: MLflow forbids changing a logged one."""
        logged = self._client.get_run(self._id).data.params
        names = {legal_name(name): value for name, value in flat(config).items()}
        params = [
            self._mlflow.entities.Param(name, str(value)[:_LONGEST_VALUE])
            for name, value in names.items()
            if name not in logged
        ]
        for batch in _batches(params, _MOST_PARAMS):
            self._client.log_batch(self._id, params=batch)

    def log_epochs(self, rows: Iterable[EpochRow]) -> Iterator[int]:
        """Log epochs in as few requests as MLflow allows."""
        for batch in _batches(chain.from_iterable(map(self._metrics, rows)), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=batch)
            yield batch[-1].step

    def log_file(self, path: Path) -> None:
        """Log a file as an artifact of the run."""
        self._client.log_artifact(self._id, str(path))

    def close(self, status: str) -> None:
        """Set the run's status."""
        self._client.set_terminated(self._id, _STATUS[status])
        if self._parent:
            self._client.set_terminated(self._parent, _STATUS[FINISHED])

    def _set_environment(self) -> None:
        """Without telemetry, and without retrying an unreachable server for minutes."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(self._request_s))

    def _store(self) -> str:
        """Return the URI of the user's store, or of a file in the run directory."""
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if uri.startswith("http"):
            reach(uri)
        self._mlflow = load("mlflow", _FOR)
        # `mlflow.set_experiment` sets an id, which belongs to MLflow's own default store.
        if not uri and os.environ.get("MLFLOW_EXPERIMENT_ID"):
            uri = self._mlflow.get_tracking_uri()
        self._is_own = not uri
        return uri or f"sqlite:///{self._run.home / DATABASE}"

    def _complete(self, file: Path) -> None:
        """Create a SQLite file where it is missing, and never let MLflow change a half-made one.

        MLflow creates it in 70 migrations, which it can neither resume after a kill nor run in two
        processes at the same time.
        """
        if self._is_own and _is_half_made(file):
            file.rename(file.with_name(f"{file.name}.damaged"))
        deadline_s = time.monotonic() + self._create_s
        while _is_half_made(file):
            if time.monotonic() > deadline_s:
                raise RuntimeError(
                    f"{file} has no runs, and not the tables of this version of MLflow: its "
                    "creation was killed or has not ended. Delete it, unless a program uses it."
                )
            time.sleep(0.2)
        if not file.exists():
            with tempfile.TemporaryDirectory() as folder:
                new = Path(folder) / DATABASE
                self._mlflow.MlflowClient(f"sqlite:///{new}")
                create_file(file, new.read_bytes())

    def _find_experiment(self) -> str:
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return str(self._client.get_experiment(given).experiment_id)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        if found is None:
            place = (self._run.home / FILES).as_uri() if self._is_own else None
            with contextlib.suppress(self._mlflow.MlflowException):  # another root created it first
                self._client.create_experiment(name, artifact_location=place)
            found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id)

    def _find(self, run_id: str, name: str, tags: Mapping[str, str] | None = None) -> str:
        found = self._client.search_runs([self._experiment], f"tags.`{_ID}` = '{run_id}'")
        if found:
            return str(found[0].info.run_id)
        made = self._client.create_run(
            self._experiment, tags={_ID: run_id, **(tags or {})}, run_name=name
        )
        return str(made.info.run_id)

    def _metrics(self, row: EpochRow) -> list[Any]:
        held = (name for name, value in row.values.items() if holds("mlflow", value))
        names = sorted(held, key=lambda name: name == _MARK)
        time_ms = round(1000 * row.time_s)
        return [
            self._mlflow.entities.Metric(legal_name(name), row.values[name], time_ms, row.step)
            for name in names
        ]


def legal_name(name: str) -> str:
    """Return a name that MLflow takes, different for each name and the same in each attempt.

    Example:
        >>> legal_name("val/loss"), legal_name("top;5")
        ('val/loss', 'top_5-e7a426a9')
    """
    cleaned = re.sub(r"[^\w\-. :/]", "_", name)
    path = "/".join(part for part in cleaned.split("/") if part.strip("."))
    if path == name and 0 < len(name) <= _LONGEST_NAME and not name.startswith(".."):
        return name
    mark = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{path.lstrip('.')[: _LONGEST_NAME - 9]}-{mark}"


def _sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite URI; None for a server, and for memory."""
    if not uri.startswith("sqlite"):
        return None
    name = load("sqlalchemy", _FOR).make_url(uri).database
    return None if name in (None, "", ":memory:") or name.startswith("file:") else Path(name)


def _is_half_made(file: Path) -> bool:
    """Whether a database has neither all tables of this MLflow nor a run."""
    if not file.exists():
        return False
    with contextlib.closing(sqlite3.connect(file)) as database:
        return _first(database, "version_num", "alembic_version") != _version() and (
            _first(database, "run_uuid", "runs") is None
        )


def _first(database: sqlite3.Connection, column: str, table: str) -> Any:
    try:
        found = database.execute(f"SELECT {column} FROM {table} LIMIT 1").fetchone()  # noqa: S608
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return None
    return found and found[0]


def _version() -> str:
    """Return the version of a database with all tables."""
    folder = Path(load("mlflow", _FOR).__file__).parent / "store" / "db_migrations"
    script = load("alembic.script", _FOR).ScriptDirectory(str(folder))
    return str(script.get_current_head())


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
