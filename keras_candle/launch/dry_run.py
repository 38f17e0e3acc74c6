"""Runs a script twice on one rank, cut short and in a copy of its folder."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

from keras_candle.launch.environment import PREPARE
from keras_candle.launch.guarded_run import ScriptPlace, copied_folder, guarded_run
from keras_candle.lint.dry_run_findings import DryRun, Fact

# Two processes differ in this on every machine; the ranks of other launchers than ours too.
_HASH_SEEDS = ("1", "2")
_RECORDER = "keras_candle.lint.dry_run"


def dry_runs(program: Sequence[str], timeout_s: float) -> list[DryRun]:
    """Run a script twice, with different hash seeds.

    Args:
        program: the script and its arguments.
        timeout_s: time for both runs together.

    Returns:
        What was seen, one for each run; one alone when the first failed.

    Raises:
        LaunchError: the folder is too large to copy.
    """
    deadline = time.monotonic() + timeout_s
    runs: list[DryRun] = []
    for hash_seed in _HASH_SEEDS:
        with copied_folder("candle-check-") as place:
            left_s = max(deadline - time.monotonic(), 0.0)
            run = _run(program, place, hash_seed, left_s)
        runs.append(dataclasses.replace(run, timeout_s=run.timeout_s and timeout_s))
        if run.reason or run.timeout_s:
            break
    return runs


def _run(program: Sequence[str], place: ScriptPlace, hash_seed: str, left_s: float) -> DryRun:
    variables = {PREPARE: _RECORDER, "PYTHONHASHSEED": hash_seed}
    ended = guarded_run(program, place, variables, left_s)
    facts = [_fact(line, place) for line in _lines(place.own / "facts")]
    if not ended.in_time:
        return DryRun(facts, timeout_s=left_s or 1)
    return DryRun(facts, ended.reason, ended.traceback)


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    # The last line may be cut where the run was stopped.
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _fact(line: str, place: ScriptPlace) -> Fact:
    fact: Fact = json.loads(line)
    fact["lines"] = [(place.outside(path), number) for path, number in fact["lines"]]
    return fact
