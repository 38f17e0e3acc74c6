"""MLflow: on its server, or in a SQLite file in the run directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_candle.optional import load
from keras_candle.trackers.base import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    TrackedRun,
    Tracker,
    flat,
    reach,
)

DATABASE, FILES = "mlflow.db", "mlflow-files"
_FOR = "trackers='mlflow'"
_ID, _PARENT = "keras_candle.run", "mlflow.parentRunId"
# Without telemetry, and without retrying an unreachable server for minutes.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_STATUS = {FINISHED: "FINISHED", FAILED: "FAILED", INTERRUPTED: "KILLED"}
_LONGEST_VALUE = 500
_MOST_METRICS, _MOST_PARAMS = 1000, 100
# The last metric of an epoch that is logged: where it exists, the epoch is complete.
_MARK = "epoch"


class Mlflow(Tracker):
    """Logs to one MLflow run, found by its tag; trials are nested in the run of their search."""

    def start(self, run: TrackedRun) -> int:
        """Find or create the run."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if uri.startswith("http"):
            reach(uri)
        self._mlflow = load("mlflow", _FOR)
        self._run = run
        # Two roots must not create the same file at the same time.
        with contextlib.nullcontext() if uri else _locked(run.home / f".{DATABASE}.lock"):
            self._client = self._mlflow.MlflowClient(uri or f"sqlite:///{run.home / DATABASE}")
            self._experiment = self._find_experiment(None if uri else run.home / FILES)
            self._parent = self._find(run.group, run.home.name) if run.group else None
            tags = {_PARENT: self._parent} if self._parent else {}
            self._id = self._find(run.id, run.name, tags)
        self._client.update_run(self._id, status="RUNNING")
        history = self._client.get_metric_history(self._id, _MARK)
        return max((each.step for each in history), default=-1)

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Log new parameters: MLflow forbids changing a logged one."""
        logged = self._client.get_run(self._id).data.params
        names = {_legal(name): value for name, value in flat(config).items()}
        params = [
            self._mlflow.entities.Param(name, str(value)[:_LONGEST_VALUE])
            for name, value in names.items()
            if name not in logged
        ]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[first : first + _MOST_PARAMS])

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the metrics of an epoch."""
        now_ms = round(1000 * time.time())
        names = sorted(values, key=lambda name: name == _MARK)
        metrics = [
            self._mlflow.entities.Metric(_legal(name), values[name], now_ms, step) for name in names
        ]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + _MOST_METRICS])

    def log_file(self, path: Path) -> None:
        """Log a file as an artifact of the run."""
        self._client.log_artifact(self._id, str(path))

    def close(self, status: str) -> None:
        """Set the run's status."""
        self._client.set_terminated(self._id, _STATUS[status])
        if self._parent:
            self._client.set_terminated(self._parent, _STATUS[FINISHED])

    def _find_experiment(self, files: Path | None) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "keras_candle")
        found = self._client.get_experiment_by_name(name)
        if found is None:
            place = None if files is None else files.as_uri()
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


def _legal(name: str) -> str:
    """Replace the characters that MLflow does not allow in a name."""
    return re.sub(r"[^\w\-. /]", "_", name)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
