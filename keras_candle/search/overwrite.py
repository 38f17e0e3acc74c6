"""overwrite=True: one process empties the search's folder, and the others wait until it has."""

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


def empty(folder: Path, *, first: bool, alone: bool) -> None:
    """Empty a search's folder, once in a job.

    Args:
        folder: the folder.
        first: whether it is this process that does it.
        alone: whether there is no other.

    Raises:
        SearchError: when the processes do not know whether they belong together, the folder was
            emptied before in this job, or the first one did not do it.
    """
    # A job that `candle run` starts again goes on, whatever it was to begin with.
    if restarts():
        return
    job = os.environ.get(STARTED_S, "")
    if not alone and not job:
        raise SearchError(
            "overwrite=True on several ranks needs `candle run`, by which they know that they "
            "belong together. Remove the folder before, or name another project."
        )
    if not alone and folder.resolve() in _EMPTIED:
        raise SearchError(
            f"overwrite=True was said before of {folder} in this job, and other ranks may still be "
            "at that search. Name another project."
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
    raise SearchError(f"{folder} was not emptied by the first rank within {_LONGEST_WAIT_S:.0f} s.")


def _until(seconds: float) -> Iterator[None]:
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        yield
        time.sleep(0.02)
