"""`candle report`: write one HTML page about runs and searches."""

import argparse
from pathlib import Path

from keras_candle.errors import CandleError, LaunchError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle report`."""
    parser.add_argument(
        "directories",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="a run directory (as given to CandleCallback) or a search's folder; several runs "
        "share the same charts",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page; report.html in the first RUN by default",
    )


def run(options: argparse.Namespace) -> int:
    """Write the page and print its path.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0.

    Raises:
        LaunchError: a directory is not a run's or a search's, or the page cannot be written.
    """
    from keras_candle.report import write_report

    try:
        path, summary = write_report(options.directories, options.output)
    except CandleError as error:
        raise LaunchError(str(error)) from error
    print(f"{path}\n{summary}")
    return 0
