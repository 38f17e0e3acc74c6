"""Run a script twice on one rank, cut short and in a copy of its folder."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

from keras_candle.launch.environment import PREPARE
from keras_candle.launch.guarded_run import ScriptSandbox, copied_folder, guarded_run
from keras_candle.lint.dry_run_findings import DryRun, Fact

# Two processes always differ in this, and so do ranks that other launchers start.
_HASH_SEEDS = ("1", "2")
_RECORDER = "keras_candle.lint.dry_run"


def dry_runs(program: Sequence[str], timeout_s: float) -> list[DryRun]:
    """Run a script twice, with different hash seeds.

    Args:
        program: the script and its arguments.
        timeout_s: time for both runs together.

    Returns:
        What each run recorded; of one run alone when the first failed.

    Raises:
        LaunchError: the folder is too large to copy.
    """
    deadline = time.monotonic() + timeout_s
    runs: list[DryRun] = []
    for hash_seed in _HASH_SEEDS:
        with copied_folder("candle-check-") as sandbox:
            left_s = max(deadline - time.monotonic(), 0.0)
            run = _run(program, sandbox, hash_seed, left_s)
        runs.append(dataclasses.replace(run, timeout_s=run.timeout_s and timeout_s))
        if run.reason or run.timeout_s:
            break
    return runs


def _run(program: Sequence[str], sandbox: ScriptSandbox, hash_seed: str, left_s: float) -> DryRun:
    variables = {PREPARE: _RECORDER, "PYTHONHASHSEED": hash_seed}
    outcome = guarded_run(program, sandbox, variables, left_s)
    facts = [_fact(line, sandbox) for line in _lines(sandbox.own / "facts")]
    if not outcome.in_time:
        return DryRun(facts, timeout_s=left_s or 1)
    return DryRun(facts, outcome.reason, outcome.traceback)


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    # The last line may be cut where the run was stopped.
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _fact(line: str, sandbox: ScriptSandbox) -> Fact:
    fact: Fact = json.loads(line)
    fact["lines"] = [(sandbox.outside(path), number) for path, number in fact["lines"]]
    return fact
