"""Real jobs of tiny programs: mpi4py is all they need."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CANDLE = (sys.executable, "-m", "keras_candle")
Candle = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def candle(tmp_path: Path) -> Candle:
    """Runs `candle ...` in an empty folder; a hang is a failure."""

    def run(
        *arguments: str, timeout_s: float = 60, cwd: Path = tmp_path, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CANDLE, *arguments],
            cwd=cwd,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Writes a program, with the rank at hand as `rank`, and gives its name."""

    def write(body: str, name: str = "program.py") -> str:
        head = "import os, signal, sys, time\nrank = int(os.environ['PMI_RANK'])\n"
        (tmp_path / name).write_text(head + body)
        return name

    return write


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a program first on PATH that prints a text and gives an exit code."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(name: str, text: str = "", code: int = 0) -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        path.chmod(0o755)
        return path

    return write
