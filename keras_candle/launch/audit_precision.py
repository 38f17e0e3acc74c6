"""`candle audit-precision`: what 16 bits do to a script's model, and which layers to pin."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_candle.errors import LaunchError
from keras_candle.launch.environment import AUDIT_PRECISION, PREPARE
from keras_candle.launch.guarded_run import ScriptOutcome, ScriptPlace, copied_folder, guarded_run
from keras_candle.launch.precision_report import text
from keras_candle.launch.run import add_program

_TIMEOUT_S = 600.0
_LONGEST_S = 1e6
_AUDITOR = "keras_candle.precision_audit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `candle audit-precision`."""
    parser.usage = "candle audit-precision [--json] [--timeout SECONDS] script.py [args...]"
    parser.add_argument("--json", action="store_true", help="print what was found as data")
    parser.add_argument(
        "--timeout",
        type=float,
        default=_TIMEOUT_S,
        metavar="SECONDS",
        help=f"how long the script and the audit together may take (default {_TIMEOUT_S:g})",
    )
    add_program(parser, modules=False)


def run(options: argparse.Namespace) -> int:
    """Runs the script until its first training, and audits that one.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0 when nothing is to be pinned, 1 when something is or when pins do not help.

    Raises:
        LaunchError: there is no such script, or nothing to audit in it.
    """
    program = options.script[1:] if options.script[:1] == ["--"] else options.script
    if not program or not Path(program[0]).is_file():
        what = f"no file {program[0]!r} in {Path.cwd()}" if program else "no script"
        raise LaunchError(f"There is {what}. Name one: candle audit-precision script.py args...")
    if not 0 < options.timeout <= _LONGEST_S:
        raise LaunchError(
            f"--timeout got {options.timeout:g}; expected seconds, more than 0 and at most "
            f"{_LONGEST_S:g}"
        )
    print(f"candle audit-precision: {program[0]} until its first training", file=sys.stderr)
    told = _audited(program, options.timeout)
    print(json.dumps(_finite(told), indent=2) if options.json else text(told))
    return 1 if any(each["pins"] or each["left"] for each in told["precisions"]) else 0


def _audited(program: Sequence[str], timeout_s: float) -> dict[str, Any]:
    with copied_folder("candle-audit-") as place:
        result = place.own / "audit.json"
        variables = {PREPARE: _AUDITOR, AUDIT_PRECISION: str(result)}
        ended = guarded_run(program, place, variables, timeout_s)
        written = result.read_text() if result.exists() else ""
        if not written:
            raise LaunchError(_why_nothing(program[0], ended, timeout_s))
        told: dict[str, Any] = json.loads(written)
        if "error" in told:
            raise LaunchError(f"{program[0]} cannot be audited: {told['error']}")
        _lead_outside(told, place)
    return told


def _why_nothing(script: str, ended: ScriptOutcome, timeout_s: float) -> str:
    if not ended.in_time:
        return (
            f"{script} and the audit did not end in {timeout_s:g} s. Say "
            f"--timeout {4 * timeout_s:g}, or let the script take its sizes from arguments"
        )
    if ended.reason:
        own = [each for each in ended.traceback if "site-packages" not in each[0]]
        where = f" ({own[-1][0]}:{own[-1][1]})" if own else ""
        return f"{script} failed before its first training had begun: {ended.reason}{where}"
    return (
        f"{script} trains nothing that can be audited: it ended without fit or train_on_batch. "
        "Give it the arguments that make it train. A loop of its own around a GradientTape is "
        "not seen: put its step into a train_step of the model"
    )


def _lead_outside(told: Any, place: ScriptPlace) -> None:
    """The script's lines with the paths that the user knows."""
    if isinstance(told, dict):
        if told.get("line"):
            told["line"] = [place.outside(told["line"][0]), told["line"][1]]
        for each in told.values():
            _lead_outside(each, place)
    elif isinstance(told, list):
        for each in told:
            _lead_outside(each, place)


def _finite(value: Any) -> Any:
    """Null in the place of what JSON has no word for."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
