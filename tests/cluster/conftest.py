"""A private Slurm for all the tests of a session that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import slurm as private
from tests.cluster.site import Site
from tests.launch.conftest import candle, script, stub  # noqa: F401 - fixtures for this folder too


@pytest.fixture(scope="session")
def slurm() -> Iterator[private.Slurm]:
    """Two nodes with 4 CPUs each, idle; skipped where Slurm is not installed."""
    if private.missing():
        pytest.skip(private.missing())
    with private.started() as running:
        yield running


@pytest.fixture
def site(slurm: private.Slurm, tmp_path: Path, monkeypatch) -> Iterator[Site]:
    """A working directory for jobs on Slurm, which is left idle."""
    slurm.environment.update(
        KERAS_CANDLE_CACHE=str(tmp_path / "cache"),
        # One thread, as on the tests' other ranks; and the tests' own modules.
        OMP_NUM_THREADS="1",
        TF_NUM_INTRAOP_THREADS="1",
        PYTHONPATH=str(Path(__file__).parents[2]),
    )
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield Site(slurm, tmp_path)
    slurm.call("scancel", "--quiet", f"--user={os.getuid()}")
    slurm.wait_for_nodes()
