"""Record facts in a dry run of a script that reading it does not show.

`candle check` runs the script with this module's `prepare` called first. Facts are JSON objects,
one a line, written as they happen: a stopped script leaves all facts before the stop.
`keras_candle.lint.dry_run_findings` judges them.
"""

from __future__ import annotations

import os

from keras_candle.lint.dry_run.files import watch_files
from keras_candle.lint.dry_run.journal import FactLog
from keras_candle.lint.dry_run.training import watch_training
from keras_candle.when_imported import when_imported

FACTS = "KERAS_CANDLE_DRY_RUN_FACTS"
"""Environment variable: the file that the facts are written to."""
SCRATCH = "KERAS_CANDLE_DRY_RUN_SCRATCH"
"""Environment variable: the only folder that may be written to."""
SOURCES = "KERAS_CANDLE_DRY_RUN_SOURCES"
"""Environment variable: folders of the script's own files, by os.pathsep."""


def prepare() -> None:
    """Record what the program in this process does, and protect the user's files from it."""
    journal = guard_files()
    when_imported("keras", lambda keras: watch_training(keras, journal))


def guard_files() -> FactLog:
    """Protect the user's files from the program in this process.

    Returns:
        The log of facts.
    """
    sources = tuple(os.environ[SOURCES].split(os.pathsep))
    journal = FactLog(os.environ[FACTS], sources)
    watch_files(journal, os.environ[SCRATCH])
    return journal
