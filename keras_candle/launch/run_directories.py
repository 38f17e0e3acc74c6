"""`candle checkpoints` and `candle report`: the commands on finished or running run directories."""

import argparse
import subprocess
import sys
from pathlib import Path

from keras_candle.errors import CandleError, LaunchError

# In a process of its own: this package imports no NumPy.
_PROGRAM = "keras_candle.checkpoints"


def add_checkpoints(parser: argparse.ArgumentParser) -> None:
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


def checkpoints(options: argparse.Namespace) -> int:
    """Run the action in a subprocess.

    Args:
        options: as `add_checkpoints` describes them.

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


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle report`."""
    parser.add_argument(
        "directories",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="a run directory (as given to CandleCallback) or the folder of a search; the curves "
        "of several runs are drawn in the same charts",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the HTML file to write; report.html in the first RUN by default",
    )


def report(options: argparse.Namespace) -> int:
    """Write the page, and print its path and a summary.

    Args:
        options: as `add_report` describes them.

    Returns:
        0.

    Raises:
        LaunchError: a directory is neither a run nor a search, or the page cannot be written.
    """
    from keras_candle.report import write_report

    try:
        path, summary = write_report(options.directories, options.output)
    except CandleError as error:
        raise LaunchError(str(error)) from error
    print(f"{path}\n{summary}")
    return 0
