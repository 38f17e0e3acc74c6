"""Run a script on one rank in a copy of its folder, without write access to the user's files."""

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
from keras_candle.folder_copy import copy_of_folder, map_into_copy
from keras_candle.launch.failure import FailureReader
from keras_candle.launch.process import end_session
from keras_candle.launcher_messages import ENGINE, LAUNCHER, PREPARE
from keras_candle.lint.script import shown

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX = "KERAS_CANDLE_DRY_RUN_"
Lines = tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class ScriptSandbox:
    """A temporary folder with a copy of the user's folder, and the mapping between their paths.

    Args:
        scratch: the temporary folder, removed afterwards.
        copy: in it, the copy of the user's folder.
    """

    scratch: Path
    copy: Path

    @property
    def own(self) -> Path:
        """The folder for keras_candle's own files, which the script does not see."""
        return self.scratch / ".candle"

    def inside(self, text: str) -> str:
        """Map a path, or an argument with a path in it, into the copy."""
        return map_into_copy(text, Path.cwd().resolve(), self.copy)

    def outside(self, path: str) -> str:
        """Map a path of the copy to the user's own."""
        return shown(path.removeprefix(str(self.scratch)))


@dataclasses.dataclass(frozen=True)
class ScriptOutcome:
    """The outcome of a sandboxed run.

    Attributes:
        in_time: False where the timeout stopped it.
        code: the exit code.
        reason: why it failed, "" where it did not.
        traceback: path and line of each call on the way to the failure, the outermost first.
    """

    in_time: bool = True
    code: int = 0
    reason: str = ""
    traceback: Lines = ()


@contextlib.contextmanager
def copied_folder(prefix: str) -> Iterator[ScriptSandbox]:
    """Copy the working directory into a temporary folder and remove it at the end.

    Args:
        prefix: of the temporary folder's name.

    Raises:
        LaunchError: the working directory is too large to copy.
    """
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        scratch = Path(folder).resolve()
        sandbox = ScriptSandbox(scratch, copy_of_folder(Path.cwd().resolve(), scratch))
        (sandbox.own / "tmp").mkdir(parents=True)
        yield sandbox


def guarded_run(
    program: Sequence[str], sandbox: ScriptSandbox, variables: Mapping[str, str], timeout_s: float
) -> ScriptOutcome:
    """Run a script once in a sandbox.

    Args:
        program: the script and its arguments.
        sandbox: where it runs.
        variables: further environment variables of the process, PREPARE at least.
        timeout_s: after which it is stopped.

    Returns:
        How it ended. What it recorded is in `sandbox.own`.
    """
    script = sandbox.inside(os.path.realpath(program[0]))
    arguments = map(sandbox.inside, program[1:])
    command = [sys.executable, "-m", "keras_candle.launch.rank", script, *arguments]
    with (sandbox.own / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=sandbox.copy,
            env={**_environment(script, sandbox), **variables},
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
    return _failed((sandbox.own / "stderr").read_bytes(), process.returncode, sandbox)


def _failed(errors: bytes, code: int, sandbox: ScriptSandbox) -> ScriptOutcome:
    reader = FailureReader()
    reader.feed(errors)
    failure = reader.failures[0] if reader.failures else None
    reason = failure.sentence().partition(") ")[2] if failure else f"exited with code {code}"
    reason = reason.removeprefix("failed: ")
    if failure and reason.endswith(":"):
        reason = f"{reason} {_last_line(failure.traceback)}"
    frames = _FRAME.findall(failure.traceback) if failure else []
    lines = tuple((sandbox.outside(path), int(line)) for path, line in frames)
    return ScriptOutcome(code=code, reason=reason, traceback=lines)


def _last_line(traceback: str) -> str:
    """Return the last line of a message, before Keras lists the arguments."""
    lines = [_COLOURS.sub("", line).strip() for line in traceback.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Arguments received", "•"))]
    return kept[-1] if kept else ""


def _environment(script: str, sandbox: ScriptSandbox) -> dict[str, str]:
    launchers = {*VARIABLES, "PMI_FD"}
    kept = {name: value for name, value in os.environ.items() if name not in launchers}
    sources = (str(sandbox.copy), os.path.dirname(script))
    return {
        "MPLBACKEND": "Agg",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **kept,
        ENGINE: "single",
        LAUNCHER: "check",
        PREPARE: "",
        "PWD": str(sandbox.copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(sandbox.own / "tmp"),
        f"{_PREFIX}FACTS": str(sandbox.own / "facts"),
        f"{_PREFIX}SCRATCH": str(sandbox.scratch),
        f"{_PREFIX}SOURCES": os.pathsep.join(sources),
    }
