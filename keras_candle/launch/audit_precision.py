"""`candle audit-precision`: find the layers that 16-bit precision breaks, to pin to float32."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_candle.errors import LaunchError
from keras_candle.launch.environment import AUDIT_PRECISION, PREPARE
from keras_candle.launch.guarded_run import ScriptOutcome, ScriptSandbox, copied_folder, guarded_run
from keras_candle.launch.precision_report import text
from keras_candle.launch.run import add_program

_TIMEOUT_S = 600.0
_LONGEST_S = 1e6
_AUDITOR = "keras_candle.precision_audit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle audit-precision`."""
    parser.usage = "candle audit-precision [--json] [--timeout SECONDS] script.py [args...]"
    parser.add_argument("--json", action="store_true", help="print the audit as JSON")
    parser.add_argument(
        "--timeout",
        type=float,
        default=_TIMEOUT_S,
        metavar="SECONDS",
        help=f"time limit for the script and the audit together (default {_TIMEOUT_S:g})",
    )
    add_program(parser, modules=False)


def run(options: argparse.Namespace) -> int:
    """Run the script until its first training step and audit the model there.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0 when no layer needs to be pinned, 1 when some do or when pins do not help.

    Raises:
        LaunchError: the script does not exist, or trains nothing that can be audited.
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
    audit = _audit(program, options.timeout)
    print(json.dumps(_finite(audit), indent=2) if options.json else text(audit))
    return 1 if any(each["pins"] or each["left"] for each in audit["precisions"]) else 0


def _audit(program: Sequence[str], timeout_s: float) -> dict[str, Any]:
    with copied_folder("candle-audit-") as sandbox:
        result = sandbox.own / "audit.json"
        variables = {PREPARE: _AUDITOR, AUDIT_PRECISION: str(result)}
        outcome = guarded_run(program, sandbox, variables, timeout_s)
        written = result.read_text() if result.exists() else ""
        if not written:
            raise LaunchError(_no_result_reason(program[0], outcome, timeout_s))
        audit: dict[str, Any] = json.loads(written)
        if "error" in audit:
            raise LaunchError(f"{program[0]} cannot be audited: {audit['error']}")
        _restore_paths(audit, sandbox)
    return audit


def _no_result_reason(script: str, outcome: ScriptOutcome, timeout_s: float) -> str:
    if not outcome.in_time:
        return (
            f"{script} and the audit did not end in {timeout_s:g} s. Pass "
            f"--timeout {4 * timeout_s:g}, or let the script take its sizes from arguments"
        )
    if outcome.reason:
        own = [each for each in outcome.traceback if "site-packages" not in each[0]]
        where = f" ({own[-1][0]}:{own[-1][1]})" if own else ""
        return f"{script} failed before its first training had begun: {outcome.reason}{where}"
    return (
        f"{script} trains nothing that can be audited: it ended without fit or train_on_batch. "
        "Give it the arguments that make it train. A loop of its own around a GradientTape is "
        "not seen: put its step into a train_step of the model"
    )


def _restore_paths(audit: Any, sandbox: ScriptSandbox) -> None:
    """Replace paths of the copied folder by the user's paths."""
    if isinstance(audit, dict):
        if audit.get("line"):
            audit["line"] = [sandbox.outside(audit["line"][0]), audit["line"][1]]
        for each in audit.values():
            _restore_paths(each, sandbox)
    elif isinstance(audit, list):
        for each in audit:
            _restore_paths(each, sandbox)


def _finite(value: Any) -> Any:
    """Replace inf and NaN, which JSON does not have, by null."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
