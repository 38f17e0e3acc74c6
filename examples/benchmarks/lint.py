"""How long `candle check --no-run` takes for a script, beside the start of Python alone.

    python -m examples.benchmarks.lint

Every eighth script of the linter's corpus, each right after an empty Python program.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from examples.benchmarks.claims import claim

CORPUS = Path(__file__).parents[2] / "tests/lint_corpus"
CHECK = ("-m", "keras_candle", "check", "--no-run")
LONGEST_S = 0.5


def seconds(*arguments: str) -> float:
    """Wall time of a Python program; a script with a fault is no failure."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    return time.perf_counter() - begin


def main() -> int:
    scripts = sorted(CORPUS.glob("*.py"))[::8]
    pairs = [(seconds("-c", ""), seconds(*CHECK, str(each))) for each in scripts]
    alone, checked = (statistics.median(each) for each in zip(*pairs, strict=True))
    what = f"checking a script, median of {len(scripts)}"
    in_time = claim(what, checked, "s", at_most=LONGEST_S)
    claim(what, checked, "s", peer=("an empty program", alone))
    return 0 if in_time.holds else 1


if __name__ == "__main__":
    sys.exit(main())
