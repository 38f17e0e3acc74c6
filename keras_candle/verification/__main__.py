"""`python -m keras_candle.verification ONE MANY`: compare two recorded jobs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from keras_candle.verification.comparison import compare_runs
from keras_candle.verification.record import read_run
from keras_candle.verification.verdict import as_json, judge, text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("one", type=Path, help="folder of the job on one rank")
    parser.add_argument("many", type=Path, help="folder of the job on N ranks")
    parser.add_argument("--size", type=int, required=True, help="N")
    parser.add_argument("--tolerance", type=float)
    parser.add_argument("--json", type=Path, help="file for the whole comparison")
    options = parser.parse_args()
    one, many = read_run(options.one, 1), read_run(options.many, options.size)
    comparisons = compare_runs(one, many, options.tolerance)
    verdict = judge(one, many, comparisons)
    if options.json is not None:
        settings = {"ranks": options.size, "tolerance": options.tolerance}
        options.json.write_text(as_json(comparisons, verdict, settings))
    sys.stdout.write(text(comparisons, verdict, options.size) + "\n")
    return verdict.exit_code


if __name__ == "__main__":
    sys.exit(main())
