"""Scripts that know nothing of ranks, run with --auto: as on one rank, within their noise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path.stem for path in (ROOT / "tests/corpus").glob("*.py"))
SCRIPTS.remove("conftest")
# N ranks take 1/N of the steps at N times the rate, which moves the score, between 0 and 1, of so
# short a training.
TOLERANCE = 0.1
# Where it makes a difference that the ranks are three: data that they do not divide evenly.
UNEVEN = (
    "batch_loop",
    "custom_train_step",
    "generator",
    "py_dataset",
    "save_and_load",
)
TIMEOUT_S = 400


def start(size: int, folder: Path, scripts: Sequence[str]) -> subprocess.Popen[str]:
    """Runs scripts of the corpus in one job."""
    for name in scripts:
        (folder / name).mkdir(parents=True)
    command = [sys.executable, "-m", "keras_candle.launch.cli", "run", "--auto", "-np", str(size)]
    with open(folder / "output.txt", "w") as output:
        return subprocess.Popen(
            [*command, "-m", "tests.corpus_job", *scripts],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_CANDLE_AUTO_SEED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )


def finish(job: subprocess.Popen[str], folder: Path) -> None:
    try:
        code = job.wait(TIMEOUT_S)
    finally:
        job.terminate()
        job.wait()
    assert code == 0, (folder / "output.txt").read_text()[-4000:]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of the same scripts on one rank, and what waits until they are through."""
    folder = tmp_path_factory.mktemp("alone")
    job = start(1, folder, SCRIPTS)
    yield folder, lambda: finish(job, folder)
    job.terminate()
    job.wait()


def is_whole(path: Path) -> bool:
    if path.suffix == ".json":
        return bool(json.loads(path.read_text()))
    if path.suffix in (".keras", ".npz"):
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return len(file) > 0
    return path.stat().st_size > 0


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.timeout(2 * TIMEOUT_S)
@pytest.mark.parametrize(("size", "scripts"), [(2, SCRIPTS), (3, UNEVEN)])
def test_the_corpus(size, scripts, alone, tmp_path):
    expected_in, wait = alone
    finish(start(size, tmp_path, scripts), tmp_path)
    wait()
    for name in scripts:
        facts, expected = (
            json.loads((folder / f"{name}.json").read_text()) for folder in (tmp_path, expected_in)
        )
        assert facts["equal"], f"{name}: the ranks hold different weights or scores"
        assert facts["score"] == pytest.approx(expected["score"], abs=TOLERANCE), name
        files = files_of(tmp_path / name)
        assert len(files) == len(files_of(expected_in / name)), name
        assert all(map(is_whole, files)), name
