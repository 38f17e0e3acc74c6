"""`candle report`: write an HTML page of runs and searches."""

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


def run(options: argparse.Namespace) -> int:
    """Write the page, and print its path and a summary.

    Args:
        options: as `add_arguments` describes them.

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
