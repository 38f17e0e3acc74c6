"""`candle check`: lint a script and dry-run it for faults that appear on several ranks."""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from keras_candle.errors import LaunchError
from keras_candle.launch.run import add_program
from keras_candle.launch.sandboxed_run import ScriptSandbox, copied_folder, guarded_run
from keras_candle.launcher_messages import PREPARE
from keras_candle.lint import read
from keras_candle.lint.dry_run_findings import TOO_LARGE, DryRun, Fact, judge
from keras_candle.lint.finding import ERROR, INFO, WARNING, Finding, in_order
from keras_candle.lint.script import Script, load

_TIMEOUT_S = 120.0
_LONGEST_S = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle check`."""
    parser.usage = "candle check [--no-run] [--json] [--timeout SECONDS] script.py [args...]"
    parser.add_argument(
        "--no-run", action="store_true", help="only read the script, without a dry run"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--timeout",
        type=float,
        default=_TIMEOUT_S,
        metavar="SECONDS",
        help=f"time limit for both dry runs together (default {_TIMEOUT_S:g})",
    )
    add_program(parser, modules=False)


def run(options: argparse.Namespace) -> int:
    """Lint the script, dry-run it twice and print the findings.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0 when no finding is an error, else 1.

    Raises:
        LaunchError: the script does not exist, or is not valid Python.
    """
    program = options.script[1:] if options.script[:1] == ["--"] else options.script
    script = _load(program)
    if not 0 < options.timeout <= _LONGEST_S:
        raise LaunchError(
            f"--timeout got {options.timeout:g}; expected seconds, more than 0 and at most "
            f"{_LONGEST_S:g}"
        )
    findings = read(script)
    if not options.no_run:
        findings += _observe(script, program, options.timeout)
    findings = in_order(findings, script.main.path)
    if options.json:
        print(json.dumps([dataclasses.asdict(each) for each in findings], indent=2))
    else:
        for each in findings:
            print(each.text(), end="\n\n")
        print(_summary(findings, script))
    return 1 if any(each.severity == ERROR for each in findings) else 0


def _load(program: Sequence[str]) -> Script:
    if not program:
        raise LaunchError("candle check got no script. Name one: candle check script.py args...")
    path = program[0]
    if not Path(path).is_file():
        raise LaunchError(f"There is no file {path!r} in {Path.cwd()}. Expected a Python script")
    try:
        return load(path)
    except SyntaxError as error:
        where = f"{error.filename or path}:{error.lineno or 0}"
        raise LaunchError(f"{where} is not valid Python: {error.msg}. Fix it first") from error
    except (OSError, ValueError) as error:
        raise LaunchError(f"{path} cannot be read: {error}") from error


def _observe(script: Script, program: Sequence[str], timeout_s: float) -> list[Finding]:
    try:
        runs = dry_runs(program, timeout_s)
    except (LaunchError, OSError) as error:
        return [TOO_LARGE.at(script.main.path, 0, why=error)]
    return list(judge(runs, script))


def _summary(findings: Sequence[Finding], script: Script) -> str:
    severities = (ERROR, WARNING, INFO)
    counts = {each: sum(f.severity == each for f in findings) for each in severities}
    parts = [f"{n} {each}{'s' * (n != 1)}" for each, n in counts.items() if n]
    files = len(script.modules)
    of = "" if files == 1 else f" in {files} files"
    return f"{os.path.normpath(script.main.path)}{of}: {', '.join(parts) or 'nothing found'}"


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
