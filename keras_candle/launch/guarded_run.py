"""Runs a script on one rank, in a copy of its folder and kept from the user's files."""

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from keras_candle.cluster.launchers import VARIABLES
from keras_candle.launch.environment import ENGINE, PREPARE
from keras_candle.launch.failure import FailureReader
from keras_candle.launch.process import end_session
from keras_candle.launch.scratch import copy_of_folder, led_inside
from keras_candle.launcher_messages import LAUNCHER
from keras_candle.lint.script import shown

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_GUARD = "KERAS_CANDLE_DRY_RUN_"
Lines = tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class ScriptPlace:
    """Where one run happens, and what its paths are called outside.

    Args:
        scratch: the folder that is thrown away afterwards.
        copy: in it, the copy of the user's folder.
    """

    scratch: Path
    copy: Path

    @property
    def own(self) -> Path:
        """The folder for what is none of the script's."""
        return self.scratch / ".candle"

    def inside(self, text: str) -> str:
        """A path, or an argument with a path in it, led into the copy."""
        return led_inside(text, Path.cwd().resolve(), self.copy)

    def outside(self, path: str) -> str:
        """A path as the user knows it."""
        return shown(path.removeprefix(str(self.scratch)))


@dataclasses.dataclass(frozen=True)
class ScriptOutcome:
    """How a run ended.

    Attributes:
        in_time: False where it was stopped.
        code: the exit code.
        reason: why it failed, "" where it did not.
        traceback: path and line of each call on the way to the failure, the outermost first.
    """

    in_time: bool = True
    code: int = 0
    reason: str = ""
    traceback: Lines = ()


@contextlib.contextmanager
def copied_folder(prefix: str) -> Iterator[ScriptPlace]:
    """A copy of the working directory, gone at the end.

    Args:
        prefix: of the name of the folder that it lies in.

    Raises:
        LaunchError: the working directory is too large to copy.
    """
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        scratch = Path(folder).resolve()
        place = ScriptPlace(scratch, copy_of_folder(Path.cwd().resolve(), scratch))
        (place.own / "tmp").mkdir(parents=True)
        yield place


def guarded_run(
    program: Sequence[str], place: ScriptPlace, variables: Mapping[str, str], timeout_s: float
) -> ScriptOutcome:
    """Run a script once.

    Args:
        program: the script and its arguments.
        place: where.
        variables: what the process is told besides, PREPARE at least.
        timeout_s: after which it is stopped.

    Returns:
        How it ended. What it recorded lies in `place.own`.
    """
    script = place.inside(os.path.realpath(program[0]))
    arguments = map(place.inside, program[1:])
    command = [sys.executable, "-m", "keras_candle.launch.rank", script, *arguments]
    with (place.own / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=place.copy,
            env={**_environment(script, place), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return ScriptOutcome(in_time=False)
        finally:
            end_session(process)
    if process.returncode == 0:
        return ScriptOutcome()
    return _failed((place.own / "stderr").read_bytes(), process.returncode, place)


def _failed(errors: bytes, code: int, place: ScriptPlace) -> ScriptOutcome:
    reader = FailureReader()
    reader.feed(errors)
    failure = reader.failures[0] if reader.failures else None
    told = failure.sentence().partition(") ")[2] if failure else f"exited with code {code}"
    told = told.removeprefix("failed: ")
    if failure and told.endswith(":"):
        told = f"{told} {_last_words(failure.traceback)}"
    frames = _FRAME.findall(failure.traceback) if failure else []
    lines = tuple((place.outside(path), int(line)) for path, line in frames)
    return ScriptOutcome(code=code, reason=told, traceback=lines)


def _last_words(traceback: str) -> str:
    """What a message of many lines says at its end, before Keras lists the arguments."""
    lines = [_COLOURS.sub("", line).strip() for line in traceback.splitlines()]
    said = [line for line in lines if line and not line.startswith(("Arguments received", "•"))]
    return said[-1] if said else ""


def _environment(script: str, place: ScriptPlace) -> dict[str, str]:
    others = {*VARIABLES, "PMI_FD"}
    kept = {name: value for name, value in os.environ.items() if name not in others}
    sources = (str(place.copy), os.path.dirname(script))
    return {
        "MPLBACKEND": "Agg",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **kept,
        ENGINE: "single",
        LAUNCHER: "check",
        PREPARE: "",
        "PWD": str(place.copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(place.own / "tmp"),
        f"{_GUARD}FACTS": str(place.own / "facts"),
        f"{_GUARD}SCRATCH": str(place.scratch),
        f"{_GUARD}SOURCES": os.pathsep.join(sources),
    }
