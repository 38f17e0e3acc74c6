"""A program of several ranks that stages a path, each of its nodes on a disk of its own.

python -m tests.staging_job PATH FOLDER: node n has FOLDER/n, odd and even ranks are
on different nodes (MPIR_CVAR_ODD_EVEN_CLIQUES); each rank prints a line.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras_candle as candle
from keras_candle import engine as engines


def main() -> None:
    path, folder = sys.argv[1:]
    engine = engines.start("mpi")
    node = engine.rank % 2
    try:
        result = str(candle.stage(path, Path(folder) / str(node)))
    except candle.DataError as error:
        result = f"DataError: {error}"
    sys.stdout.write(f"{engine.rank}|{result}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
