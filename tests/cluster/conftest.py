"""A private Slurm for all the tests of a session that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import slurm as private


@pytest.fixture(scope="session")
def slurm() -> Iterator[private.Slurm]:
    """Two nodes with 4 CPUs each, idle; skipped where Slurm is not installed."""
    if private.missing():
        pytest.skip(private.missing())
    with private.started() as running:
        yield running
