"""`candle check`: lint a script and dry-run it for faults that appear on several ranks."""

import argparse
import ast
import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_candle.errors import LaunchError
from keras_candle.launch.run import add_program
from keras_candle.launch.sandboxed_run import ScriptSandbox, copied_folder, guarded_run
from keras_candle.launcher_messages import AUTO_SEED, PREPARE
from keras_candle.lint import read
from keras_candle.lint.dry_run_findings import TOO_LARGE, DryRun, Fact, judge
from keras_candle.lint.finding import ERROR, INFO, WARNING, Finding, grouped, in_order
from keras_candle.lint.script import Script, load

_TIMEOUT_S = 120.0
_LONGEST_S = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle check`."""
    parser.usage = (
        "candle check [--auto] [--no-run] [--json] [--timeout SECONDS] script.py [args...]"
    )
    parser.add_argument(
        "--auto", action="store_true", help="for a script that will run with candle run --auto"
    )
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
        LaunchError: the script does not exist, is not valid Python, or cannot be read.
    """
    program = options.script[1:] if options.script[:1] == ["--"] else options.script
    script = _load(program, auto=options.auto)
    if not 0 < options.timeout <= _LONGEST_S:
        raise LaunchError(
            f"--timeout got {options.timeout:g}; expected seconds, more than 0 and at most "
            f"{_LONGEST_S:g}"
        )
    findings = _read(script)
    if not options.no_run:
        findings += _observe(script, program, options.timeout)
    findings = grouped(in_order(findings, script.main.path))
    if options.json:
        print(json.dumps([each.as_dict() for each in findings], indent=2))
    else:
        for each in findings:
            print(each.text(), end="\n\n")
        print(_summary(findings, script))
    return 1 if any(each.severity == ERROR for each in findings) else 0


def _load(program: Sequence[str], *, auto: bool) -> Script:
    if not program:
        raise LaunchError("candle check got no script. Name one: candle check script.py args...")
    path = program[0]
    if not Path(path).is_file():
        raise LaunchError(f"There is no file {path!r} in {Path.cwd()}. Expected a Python script")
    try:
        script = load(path, auto=auto)
    except SyntaxError as error:
        raise LaunchError(_not_python(path, error)) from error
    except (RecursionError, MemoryError) as error:
        raise LaunchError(_too_deep(path)) from error
    except (OSError, ValueError) as error:
        raise LaunchError(f"{path} cannot be read: {error}") from error
    if _is_notebook(script.main.tree):
        raise LaunchError(
            f"{path} is a notebook. Export it first: jupyter nbconvert --to script {path}"
        )
    return script


def _read(script: Script) -> list[Finding]:
    try:
        return read(script)
    except RecursionError as error:
        raise LaunchError(_too_deep(script.main.path)) from error


def _too_deep(path: str) -> str:
    return f"{path} cannot be read: its expressions are nested too deeply. Divide the longest"


def _not_python(path: str, error: SyntaxError) -> str:
    where = f"{error.filename or path}:{error.lineno}" if error.lineno else path
    line = (error.text or "").strip()
    if line.startswith(("%", "!")):
        return f"{where} is a notebook's command and not Python: {line}. Remove the line"
    return f"{where} is not valid Python: {error.msg}. Fix it first"


def _is_notebook(tree: ast.Module) -> bool:
    """Return whether a file is a notebook's JSON, which Python reads as a dictionary."""
    content = tree.body[0].value if tree.body and isinstance(tree.body[0], ast.Expr) else None
    keys = content.keys if isinstance(content, ast.Dict) else []
    names = {each.value for each in keys if isinstance(each, ast.Constant)}
    return {"cells", "nbformat"} <= names


def _observe(script: Script, program: Sequence[str], timeout_s: float) -> list[Finding]:
    try:
        runs = dry_runs(program, timeout_s, auto=script.auto)
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
HASH_SEED = "PYTHONHASHSEED"
_RECORDER = "keras_candle.lint.dry_run"


def dry_runs(program: Sequence[str], timeout_s: float, *, auto: bool = False) -> list[DryRun]:
    """Run a script twice, with different hash seeds.

    Args:
        program: the script and its arguments.
        timeout_s: time for both runs together.
        auto: whether to seed both alike, as `candle run --auto` does.

    Returns:
        What each run recorded; of one run alone when the first failed.

    Raises:
        LaunchError: the folder is too large to copy.
    """
    deadline = time.monotonic() + timeout_s
    runs: list[DryRun] = []
    for hash_seed in _HASH_SEEDS:
        seeds = {AUTO_SEED: "0", HASH_SEED: "0"} if auto else {HASH_SEED: hash_seed}
        with copied_folder("candle-check-") as sandbox:
            left_s = max(deadline - time.monotonic(), 0.0)
            run = _run(program, sandbox, seeds, left_s)
        runs.append(dataclasses.replace(run, timeout_s=run.timeout_s and timeout_s))
        if run.reason or run.timeout_s:
            break
    return runs


def _run(
    program: Sequence[str], sandbox: ScriptSandbox, seeds: Mapping[str, str], left_s: float
) -> DryRun:
    variables = {PREPARE: _RECORDER, **seeds}
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
