"""overwrite=True: one process empties the search's folder, and all processes wait for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from keras_candle.errors import SearchError
from keras_candle.launcher_messages import STARTED_S, restarts

_LONGEST_WAIT_S = 600.0
_EMPTIED: set[Path] = set()


def empty_project(folder: Path, *, first: bool, alone: bool) -> None:
    """Empty a search's folder, once in a job.

    Args:
        folder: the folder.
        first: whether this process empties it.
        alone: whether this is the only process.

    Raises:
        SearchError: when several processes have no common job, the folder was emptied before in
            this job, or the first process did not empty it in time.
    """
    # A job that `candle run` restarts resumes its search.
    if restarts():
        return
    job = os.environ.get(STARTED_S, "")
    if not alone and not job:
        raise SearchError(
            "overwrite=True on several ranks needs `candle run`, which gives all ranks a common "
            "job. Start the script with it, remove the folder before, or name another project."
        )
    if not alone and folder.resolve() in _EMPTIED:
        raise SearchError(
            f"overwrite=True was used before for {folder} in this job, and other ranks may still "
            "run that search. Name another project."
        )
    _EMPTIED.add(folder.resolve())
    mark = folder / ".job"
    if first:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        mark.write_text(job)
        return
    for _ in _until(_LONGEST_WAIT_S):
        with contextlib.suppress(FileNotFoundError):
            if mark.read_text() == job:
                return
    raise SearchError(
        f"The first rank did not empty {folder} within {_LONGEST_WAIT_S:.0f} s. Check that all "
        "ranks see the same folder, and that the first rank is running."
    )


def _until(seconds: float) -> Iterator[None]:
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        yield
        time.sleep(0.02)
