"""`python -m keras_candle.verification ONE MANY`: compare two recorded jobs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from keras_candle.verification.comparison import DIFFERENT, EXPLAINED, compare_runs
from keras_candle.verification.equivalence import UNDECIDED
from keras_candle.verification.record import read_run
from keras_candle.verification.verdict import as_json, judge, judge_failure, text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("one", type=Path, help="folder of the job on one rank")
    parser.add_argument("many", type=Path, help="folder of the job on N ranks")
    parser.add_argument("--size", type=int, required=True, help="N")
    parser.add_argument("--tolerance", type=float)
    parser.add_argument("--json", type=Path, help="file for the whole comparison")
    parser.add_argument("--head", required=True, help="first line of the report")
    parser.add_argument("--probe", type=Path, help="folder of the first steps on shards")
    parser.add_argument("--failed", action="store_true", help="whether the job on N ranks failed")
    options = parser.parse_args()
    one, many = read_run(options.one, 1), read_run(options.many, options.size)
    probe = read_run(options.probe, 1) if options.probe else None
    if options.failed:
        comparisons, verdict = [], judge_failure(probe, options.size)
    else:
        comparisons = compare_runs(one, many, options.tolerance, probe)
        verdict = judge(one, many, comparisons)
    if verdict is None or (probe is None and verdict.word in (DIFFERENT, EXPLAINED)):
        return UNDECIDED
    if options.json is not None:
        settings = {"ranks": options.size, "tolerance": options.tolerance}
        options.json.write_text(as_json(comparisons, verdict, settings))
    sys.stdout.write(f"{options.head}\n\n{text(comparisons, verdict, options.size)}\n")
    return verdict.exit_code


if __name__ == "__main__":
    sys.exit(main())
