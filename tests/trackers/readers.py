"""What the trackers' own packages read in a run directory: {step: {name: value}}."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections import defaultdict

NAMES = ("csv", "tensorboard", "wandb", "mlflow")


def read(name, run, *where):
    """Each step's numbers. A step that is there twice is an error."""
    readers = {"csv": _csv, "tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
    return readers[name](run, *where)


def _csv(run):
    found = {}
    with open(run / "log.csv", newline="") as file:
        for row in csv.DictReader(file):
            values = {key: _number(value) for key, value in row.items() if value != ""}
            _add(found, int(values.pop("step")), values)
    return found


def _number(text):
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    found = defaultdict(dict)
    for tag in events.Tags()["scalars"]:
        for each in events.Scalars(tag):
            _add(found[each.step], tag, each.value)
    return dict(found)


def wandb_records(run):
    """All records of all offline directories, as `wandb leet inspect` reads them."""
    from wandb.util import get_core_path

    for path in sorted(run.glob("wandb/offline-run-*/run-*.wandb")):
        command = [get_core_path(), "leet", "inspect", "--json", "--no-observability"]
        told = subprocess.run(
            [*command, "--run-file", path], check=True, capture_output=True, text=True
        )
        yield from (json.loads(line) for line in told.stdout.splitlines())


def of_wandb(value):
    """A number as W&B's own reader has it: integers of up to 64 bits, and floats."""
    return value if isinstance(value, int) and abs(value) < 2**63 else float(value)


def _wandb(run):
    found = {}
    for record in wandb_records(run):
        if record["type"] == "history":
            values = {key: of_wandb(value) for key, value in record["history"]["item"].items()}
            own = {key: value for key, value in values.items() if not key.startswith("_")}
            _add(found, int(values["_step"]), own)
    return found


def mlflow_runs(run, uri=None):
    """The client of a server, or of the run directory's file, and all runs of the experiment."""
    import mlflow

    client = mlflow.MlflowClient(uri or f"sqlite:///{run}/mlflow.db")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "keras_candle")
    return client, client.search_runs([client.get_experiment_by_name(name).experiment_id])


def _mlflow(run, uri=None):
    client, runs = mlflow_runs(run, uri)
    found = defaultdict(dict)
    (one,) = runs
    for key in one.data.metrics:
        for each in client.get_metric_history(one.info.run_id, key):
            _add(found[each.step], key, each.value)
    return dict(found)


def _add(table, key, value):
    assert key not in table, f"{key} is there twice"
    table[key] = value
