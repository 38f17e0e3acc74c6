"""One server of MLflow for all tests of trackers: it starts in seconds."""

from __future__ import annotations

import pytest

from tests.trackers.mlflow_server import mlflow_server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("server")) as server:
        yield server
