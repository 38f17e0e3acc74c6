"""The record of each training of a rank: its contents, and how it is stored and read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Arrays = list[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class WeightSnapshot:
    """A model's weights at one moment.

    Attributes:
        when: "start", "step 3", "epoch 2" or "end".
        digests: one for each weight.
        file: the file of the weights themselves; None where they were not stored.
    """

    when: str
    digests: list[str]
    file: str | None = None


@dataclass(frozen=True)
class Fact:
    """A property of a training that affects whether N ranks can equal one.

    Attributes:
        kind: a key of `comparison.EXPLANATIONS` or `comparison.HINTS`.
        what: the layers, weights or functions that have it.
    """

    kind: str
    what: str


@dataclass
class TrainingRecord:
    """The record of one `fit` or `evaluate`, or of consecutive calls of `train_on_batch`.

    Attributes:
        kind: the method.
        model: the model's class and name.
        scaled: whether keras_candle trains it on all ranks together.
        weights: their paths, in the model's order.
        trainable: for each weight, whether an optimizer updates it.
        noise: positions of the weights whose gradients were only rounding.
        snapshots: in the order of time.
        optimizer: paths of the optimizers' variables.
        optimizer_file: the file of their values at the end.
        steps: how often the weights were updated.
        logs: name -> its value in each epoch, or in each call.
        rows: of the data ("") and of the validation data ("val_"), where known.
        data: fingerprints of the arrays; empty for data without fingerprints.
        facts: further facts about the training.
    """

    kind: str
    model: str
    scaled: bool = False
    weights: list[str] = field(default_factory=list)
    trainable: list[bool] = field(default_factory=list)
    noise: list[int] = field(default_factory=list)
    snapshots: list[WeightSnapshot] = field(default_factory=list)
    optimizer: list[str] = field(default_factory=list)
    optimizer_file: str | None = None
    steps: int = 0
    logs: dict[str, list[Any]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)

    def at(self, when: str) -> WeightSnapshot | None:
        """Return the snapshot of a moment, or None."""
        return next((each for each in self.snapshots if each.when == when), None)


@dataclass(frozen=True)
class RecordedRun:
    """The records of all ranks of one job.

    Attributes:
        folder: the folder of their files.
        ranks: the records of each rank, rank 0 first.
    """

    folder: Path
    ranks: list[list[TrainingRecord]]

    def arrays(self, file: str | None) -> Arrays | None:
        """Read the arrays of a file in their order; None without a file."""
        if file is None:
            return None
        with np.load(self.folder / file) as stored:
            return [stored[name] for name in stored.files]


def digest(array: np.ndarray[Any, Any]) -> str:
    """Return a hash that is equal for arrays that are equal to the bit."""
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()


def write_arrays(path: Path, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
    """Store arrays in their order."""
    named: dict[str, Any] = {f"{number:05d}": array for number, array in enumerate(arrays)}
    np.savez(path, **named)


def write_manifest(descriptor: int, rank: int, records: Sequence[TrainingRecord]) -> None:
    """Store a rank's records, after the files that they name.

    Args:
        descriptor: an open file in the run's folder, named *.json; its content is replaced.
        rank: the rank of this process.
        records: all records.
    """
    content = {"rank": rank, "records": [dataclasses.asdict(record) for record in records]}
    data = json.dumps(content).encode()
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    while data:
        data = data[os.write(descriptor, data) :]


def read_run(folder: Path, size: int) -> RecordedRun:
    """Read the records of all ranks of a job.

    Args:
        folder: the folder of their files.
        size: the number of ranks; a rank with an empty manifest has no records.
    """
    ranks: list[list[TrainingRecord]] = [[] for _ in range(size)]
    for manifest in folder.glob("*.json"):
        content = json.loads(manifest.read_text() or '{"rank": 0, "records": []}')
        if content["records"]:
            ranks[content["rank"]] = [_record(each) for each in content["records"]]
    return RecordedRun(folder, ranks)


def _record(values: Mapping[str, Any]) -> TrainingRecord:
    parts = {
        "snapshots": [WeightSnapshot(**each) for each in values["snapshots"]],
        "facts": [Fact(**each) for each in values["facts"]],
    }
    return TrainingRecord(**{**values, **parts})
