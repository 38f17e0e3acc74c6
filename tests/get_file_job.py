"""A program of several ranks that gets a file, each of its nodes with a cache of its own.

python -m tests.get_file_job URL FOLDER JSON: node n has the cache FOLDER/n, odd and even ranks
are on different nodes (MPIR_CVAR_ODD_EVEN_CLIQUES); JSON has further arguments. Each rank prints a
line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras_candle as candle
from keras_candle import engine as engines


def main() -> None:
    origin, folder, arguments = sys.argv[1:]
    cache = Path(folder) / str(engines.start("mpi").rank % 2)
    try:
        result = candle.get_file(origin=origin, cache_dir=cache, **json.loads(arguments))
    except candle.DataError as error:
        result = f"DataError: {error}"
    sys.stdout.write(f"\n{candle.rank()}|{result}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
