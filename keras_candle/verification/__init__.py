"""Equivalence check (`candle verify`): record the trainings of each rank, then compare two jobs.

A rank's program is recorded as it trains (`recorder`), into a folder (`record`). When the jobs on
one rank and on N ranks have ended, `python -m keras_candle.verification` compares their folders.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from types import ModuleType

from keras_candle import run_directory
from keras_candle.launcher_messages import VERIFY
from keras_candle.seeding import seed_unseeded
from keras_candle.when_imported import when_imported


def prepare() -> None:
    """Install the recorder in this rank's process, before the program begins.

    All random generators get a seed. The program's own seeds come later and take precedence.
    """
    settings = json.loads(os.environ[VERIFY])
    # Opened now, by descriptor: with --auto the program's ranks see an overlay of files.
    name = os.path.join(settings["folder"], f"process-{os.getpid()}.json")
    manifest = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)

    def record(_: ModuleType) -> None:
        from keras_candle.verification.recorder import TrainingRecorder

        recorder = TrainingRecorder(
            settings["folder"],
            manifest,
            settings["epochs"],
            exact=settings["exact"],
            shards=settings["shards"],
        )
        recorder.install()

    run_directory.resolve = functools.partial(_own_run_directory, Path(settings["folder"]))
    seed_unseeded(int(settings["seed"]))
    when_imported("keras", record)


def _own_run_directory(folder: Path, path: Path) -> Path:
    """Move a run directory into the job's folder: the second job must not resume the first."""
    whole = path.absolute()
    return whole if whole.is_relative_to(folder) else folder / "runs" / whole.relative_to("/")
