"""`candle report`: runs and searches as one HTML page."""

import argparse
from pathlib import Path

from keras_candle.errors import CandleError, LaunchError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `candle report`."""
    parser.add_argument(
        "directories",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="the directory that CandleCallback was given, or a search's folder; of several runs "
        "the curves stand in the same charts",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page; report.html in the first RUN by default",
    )


def run(options: argparse.Namespace) -> int:
    """Writes the page and prints where it lies.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0.

    Raises:
        LaunchError: a directory is neither a run's nor a search's, or the page cannot be written.
    """
    from keras_candle.report import write_report

    try:
        path, said = write_report(options.directories, options.output)
    except CandleError as error:
        raise LaunchError(str(error)) from error
    print(f"{path}\n{said}")
    return 0
