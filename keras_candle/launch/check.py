"""`candle check`: lint a script and dry-run it for faults that appear on several ranks."""

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from keras_candle.errors import LaunchError
from keras_candle.launch.dry_run import dry_runs
from keras_candle.launch.run import add_program
from keras_candle.lint import read
from keras_candle.lint.dry_run_findings import TOO_LARGE, judge
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
