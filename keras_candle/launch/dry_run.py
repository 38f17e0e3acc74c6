"""Runs a script twice on one rank, cut short and in a copy of its folder."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from keras_candle.check.observed import DryRun, Fact
from keras_candle.check.script import shown
from keras_candle.launch.environment import ENGINE, LAUNCHER, LAUNCHER_VARIABLES, PREPARE
from keras_candle.launch.failure import FailureReader
from keras_candle.launch.process import end_session
from keras_candle.launch.scratch import copy_of_folder, led_inside

# Two processes differ in this on every machine; the ranks of other launchers than ours too.
_HASH_SEEDS = ("1", "2")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FACTS, _RECORDER = "KERAS_CANDLE_DRY_RUN_", "keras_candle.dry_run"


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where one run happens, and what its paths are called outside.

    Args:
        scratch: the folder that is thrown away afterwards.
        copy: in it, the copy of the user's folder.
    """

    scratch: Path
    copy: Path

    def inside(self, text: str) -> str:
        """A path, or an argument with a path in it, led into the copy."""
        return led_inside(text, Path.cwd().resolve(), self.copy)

    def outside(self, path: str) -> str:
        """A path as the user knows it."""
        return shown(path.removeprefix(str(self.scratch)))


def dry_runs(program: Sequence[str], timeout_s: float) -> list[DryRun]:
    """Run a script twice, with different hash seeds.

    Args:
        program: the script and its arguments.
        timeout_s: time for both runs together.

    Returns:
        What was seen, one for each run; one alone when the first failed.

    Raises:
        LaunchError: the folder is too large to copy.
    """
    deadline = time.monotonic() + timeout_s
    runs: list[DryRun] = []
    for hash_seed in _HASH_SEEDS:
        with tempfile.TemporaryDirectory(prefix="candle-check-") as folder:
            scratch = Path(folder).resolve()
            place = _Place(scratch, copy_of_folder(Path.cwd().resolve(), scratch))
            left_s = max(deadline - time.monotonic(), 0.0)
            run = _run(program, place, hash_seed, left_s)
        runs.append(dataclasses.replace(run, timeout_s=run.timeout_s and timeout_s))
        if run.reason or run.timeout_s:
            break
    return runs


def _run(program: Sequence[str], place: _Place, hash_seed: str, left_s: float) -> DryRun:
    own = place.scratch / ".candle"
    (own / "tmp").mkdir(parents=True)
    script = place.inside(os.path.realpath(program[0]))
    arguments = map(place.inside, program[1:])
    command = [sys.executable, "-m", "keras_candle.launch.rank", script, *arguments]
    with (own / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=place.copy,
            env=_environment(script, place, hash_seed),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            process.wait(left_s)
            in_time = True
        except subprocess.TimeoutExpired:
            in_time = False
        finally:
            end_session(process)
    facts = [_fact(line, place) for line in _lines(own / "facts")]
    if not in_time:
        return DryRun(facts, timeout_s=left_s or 1)
    if process.returncode == 0:
        return DryRun(facts)
    return _failed(facts, (own / "stderr").read_bytes(), process.returncode, place)


def _failed(facts: list[Fact], errors: bytes, code: int, place: _Place) -> DryRun:
    reader = FailureReader()
    reader.feed(errors)
    failure = reader.failures[0] if reader.failures else None
    told = failure.sentence().partition(") ")[2] if failure else f"exited with code {code}"
    told = told.removeprefix("failed: ")
    if failure and told.endswith(":"):
        told = f"{told} {_last_words(failure.traceback)}"
    frames = _FRAME.findall(failure.traceback) if failure else []
    lines = tuple((place.outside(path), int(line)) for path, line in frames)
    return DryRun(facts, told, lines)


def _last_words(traceback: str) -> str:
    """What a message of many lines says at its end, before Keras lists the arguments."""
    lines = [_COLOURS.sub("", line).strip() for line in traceback.splitlines()]
    said = [line for line in lines if line and not line.startswith(("Arguments received", "•"))]
    return said[-1] if said else ""


def _environment(script: str, place: _Place, hash_seed: str) -> dict[str, str]:
    others = {name for row in LAUNCHER_VARIABLES for name in row} | {"PMI_FD"}
    kept = {name: value for name, value in os.environ.items() if name not in others}
    sources = (str(place.copy), os.path.dirname(script))
    return {
        "MPLBACKEND": "Agg",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **kept,
        ENGINE: "single",
        LAUNCHER: "check",
        PREPARE: _RECORDER,
        "PWD": str(place.copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": hash_seed,
        "TMPDIR": str(place.scratch / ".candle" / "tmp"),
        f"{_FACTS}FACTS": str(place.scratch / ".candle" / "facts"),
        f"{_FACTS}SCRATCH": str(place.scratch),
        f"{_FACTS}SOURCES": os.pathsep.join(sources),
    }


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    # The last line may be cut where the run was stopped.
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _fact(line: str, place: _Place) -> Fact:
    fact: Fact = json.loads(line)
    fact["lines"] = [(place.outside(path), number) for path, number in fact["lines"]]
    return fact
