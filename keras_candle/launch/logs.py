"""`candle logs`: the output of a submitted job, as it is or as it comes."""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from keras_candle.cluster.schedulers import ANSWER_WITHIN_S
from keras_candle.cluster.status import ASK_EVERY_S, Phase, Status, elements_of, statuses
from keras_candle.errors import LaunchError
from keras_candle.launch.status import FoundJob, ask, find

_POLL_S = 0.5
_BLOCK_BYTES = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle logs`."""
    parser.add_argument("job", metavar="JOB", help="a job's name or folder, or a run directory")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with new output until the job has ended"
    )
    parser.add_argument(
        "-n", "--lines", type=int, metavar="N", help="begin with the last N lines; all by default"
    )
    parser.add_argument(
        "--element", type=int, metavar="I", help="of an array, from 0; all of them by default"
    )


def run(options: argparse.Namespace) -> int:
    """Print the job's output.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0.

    Raises:
        LaunchError: there is no such job or element, or no output yet.
    """
    job = find_job(options.job)
    if options.lines is not None and options.lines < 0:
        raise LaunchError(f"-n got {options.lines}, expected 0 lines or more")
    outputs = Outputs(_files(job, options.element), options.lines)
    if not outputs.show() and not options.follow:
        state = status_of(job)
        raise LaunchError(
            f"{job.name} has no output yet: it is {state.state.name}"
            f"{f' ({state.detail})' if state.detail else ''}. candle logs -f waits for it"
        )
    if options.follow:
        follow(job, outputs)
    return 0


def find_job(given: str) -> FoundJob:
    """Find a submitted job.

    Raises:
        LaunchError: there is none of this name, or the run directory belongs to none.
    """
    found = find(given)
    if isinstance(found, FoundJob):
        return found
    raise LaunchError(
        f"{found} is the run directory of no submitted job: `candle submit` makes one. For a "
        "program that you started yourself, see its own terminal"
    )


def status_of(
    job: FoundJob, ask_every_s: float = ASK_EVERY_S, within_s: float = ANSWER_WITHIN_S
) -> Status:
    """Return the status of a job, or of the element that is named; of an array one that is on."""
    found = all_statuses(job, ask_every_s, within_s)
    still_on = [each for each in found if each.state.phase is not Phase.ENDED]
    return (still_on or found)[0]


def all_statuses(
    job: FoundJob, ask_every_s: float = ASK_EVERY_S, within_s: float = ANSWER_WITHIN_S
) -> list[Status]:
    """Return the status of a job, or of each element, or of the one that is named."""
    scheduler = job.folder.facts().get("scheduler")
    found = statuses(job.folder, *ask([job], ask_every_s, within_s)[scheduler])
    return [each for each in found if job.element in (None, each.element)]


def follow(
    job: FoundJob,
    outputs: "Outputs",
    poll_s: float = _POLL_S,
    ask_every_s: float = ASK_EVERY_S,
) -> None:
    """Print new output until the job has ended.

    Args:
        job: the job.
        outputs: its files.
        poll_s: how often the files are read.
        ask_every_s: how often the scheduler is asked, with all other calls of this user.
    """
    asked_s = -ask_every_s
    while True:
        shown = outputs.show()
        if not shown and time.monotonic() - asked_s >= ask_every_s:
            asked_s = time.monotonic()
            if status_of(job, ask_every_s).state.phase is Phase.ENDED:
                outputs.show()  # what came while the scheduler answered
                return
        time.sleep(poll_s)


class Outputs:
    """The output files of a job, of which each part is shown once.

    Args:
        files: one, or one for each element of an array. They need not exist.
        lines: the last lines to begin with; None for all.
    """

    def __init__(self, files: list[Path], lines: int | None) -> None:
        self._files, self._lines = files, lines
        self._places: dict[Path, int] = {}
        self._shown: Path | None = None

    def show(self) -> bool:
        """Write new output to stdout; return whether there was any."""
        shown = [self._show(each) for each in self._files]
        return any(shown)

    def _show(self, path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if path not in self._places and self._lines is not None:
                self._places[path] = _start_of_last(file, size, self._lines)
            # A start that has replaced the file is shown from its beginning.
            place = self._places.get(path, 0)
            file.seek(place if place <= size else 0)
            begun = file.tell()
            while block := file.read(_BLOCK_BYTES):
                self._head(path)
                sys.stdout.buffer.write(block)
            self._places[path] = file.tell()
            sys.stdout.flush()
            return file.tell() > begun
        return False

    def _head(self, path: Path) -> None:
        if len(self._files) > 1 and self._shown != path:
            sys.stdout.write(f"==> {path.name} <==\n")
            sys.stdout.flush()
        self._shown = path


def _start_of_last(file: BinaryIO, size: int, lines: int) -> int:
    """Return where the last lines of a file begin; it is read from its end."""
    place, found = size, 0
    while place > 0:
        length = min(_BLOCK_BYTES, place)
        place -= length
        file.seek(place)
        block = file.read(length)
        if place + length == size and block.endswith(b"\n"):
            found = -1
        end = len(block)
        while (end := block.rfind(b"\n", 0, end)) >= 0:
            found += 1
            if found == lines:
                return place + end + 1
    return 0 if lines else size


def _files(job: FoundJob, element: int | None) -> list[Path]:
    elements = elements_of(job.folder.facts())
    if element is not None and element not in elements:
        have = f"elements 0 to {len(elements) - 1}" if elements else "no array"
        raise LaunchError(f"--element got {element}, but {job.name} has {have}")
    if element is None:
        element = job.element
    if element is not None or not elements:
        return [job.folder.output(element)]
    return [job.folder.output(each) for each in elements]
