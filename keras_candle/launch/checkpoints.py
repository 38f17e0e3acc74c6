"""`candle checkpoints`: what lies in a run directory, whether it is whole, and the way back."""

import argparse
import subprocess
import sys
from pathlib import Path

from keras_candle.errors import LaunchError

# In a process of its own: this room imports no NumPy, and hashing needs no answer at once.
_PROGRAM = "keras_candle.checkpoints"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `candle checkpoints`."""
    parser.usage = (
        "candle checkpoints (ls | verify) RUN_DIRECTORY\n"
        "       candle checkpoints rollback RUN_DIRECTORY STEP"
    )
    parser.add_argument(
        "action",
        choices=("ls", "verify", "rollback"),
        help="list them; compare every byte with what was written; go back to one, the newer ones "
        "being set aside",
    )
    parser.add_argument("run_directory", type=Path, metavar="RUN_DIRECTORY")
    parser.add_argument(
        "step", type=int, nargs="?", metavar="STEP", help="of the one to go back to"
    )


def run(options: argparse.Namespace) -> int:
    """Does it.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0, or 1 when a checkpoint is damaged or cannot be gone back to.

    Raises:
        LaunchError: there is no such run directory, or no step is given to go back to.
    """
    if not (options.run_directory / "checkpoints").is_dir():
        raise LaunchError(
            f"{options.run_directory} is no run directory: it has no folder checkpoints. Expected "
            "the path that CandleCallback was given"
        )
    if (options.step is None) == (options.action == "rollback"):
        raise LaunchError(
            "candle checkpoints rollback RUN_DIRECTORY STEP takes a step, ls and verify take none"
        )
    steps = [] if options.step is None else [str(options.step)]
    command = [sys.executable, "-m", _PROGRAM, options.action, str(options.run_directory), *steps]
    return subprocess.run(command, check=False).returncode
