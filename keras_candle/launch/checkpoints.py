"""`candle checkpoints`: list, verify and roll back the checkpoints of a run directory."""

import argparse
import subprocess
import sys
from pathlib import Path

from keras_candle.errors import LaunchError

# In a process of its own: this package imports no NumPy.
_PROGRAM = "keras_candle.checkpoints"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle checkpoints`."""
    parser.usage = (
        "candle checkpoints (ls | verify) RUN_DIRECTORY\n"
        "       candle checkpoints rollback RUN_DIRECTORY STEP"
    )
    parser.add_argument(
        "action",
        choices=("ls", "verify", "rollback"),
        help="list them; compare every byte with what was written; roll back to one and set the "
        "newer ones aside",
    )
    parser.add_argument("run_directory", type=Path, metavar="RUN_DIRECTORY")
    parser.add_argument(
        "step", type=int, nargs="?", metavar="STEP", help="step of the checkpoint to roll back to"
    )


def run(options: argparse.Namespace) -> int:
    """Run the action in a subprocess.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0, or 1 when a checkpoint is damaged or cannot be rolled back to.

    Raises:
        LaunchError: the folder is not a run directory, or rollback got no step.
    """
    if not (options.run_directory / "checkpoints").is_dir():
        raise LaunchError(
            f"{options.run_directory} is not a run directory: it has no folder checkpoints. "
            "Expected the path that CandleCallback was given"
        )
    if (options.step is None) == (options.action == "rollback"):
        raise LaunchError(
            "candle checkpoints rollback RUN_DIRECTORY STEP takes a step, ls and verify take none"
        )
    steps = [] if options.step is None else [str(options.step)]
    command = [sys.executable, "-m", _PROGRAM, options.action, str(options.run_directory), *steps]
    return subprocess.run(command, check=False).returncode
