"""`candle audit-precision`: find the layers that 16-bit precision breaks, to pin to float32."""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_candle.errors import LaunchError
from keras_candle.launch.run import add_program
from keras_candle.launch.sandboxed_run import (
    ScriptOutcome,
    ScriptSandbox,
    copied_folder,
    guarded_run,
)
from keras_candle.launcher_messages import AUDIT_PRECISION, PREPARE

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
        0 when nothing is wrong; 1 when a layer needs a pin, pins do not help, or a short training
        fails.

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
    return int(has_defect(audit))


def has_defect(audit: Mapping[str, Any]) -> bool:
    precisions = audit["precisions"]
    by_layer = any(each["pins"] or each["left"] or not each["is_scaled"] for each in precisions)
    return by_layer or bool(audit["problems"]) or bool(audit["float32"]["not_finite"])


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


Audit = Mapping[str, Any]
# Of findings in more layers, the first ones and a count are shown.
_MOST_ROWS = 12
# A speed-up below it is not a measurement error.
_SLOWER = 0.9


def text(audit: Audit) -> str:
    """Format the whole audit.

    Args:
        audit: as `keras_candle.precision_audit.audit.audit` returns it.
    """
    blocks = [_head(audit), *(_precision(each, audit["problems"]) for each in audit["precisions"])]
    blocks += [_table(audit), *_problems(audit), _auto(audit)]
    return "\n\n".join(blocks)


def _problems(audit: Audit) -> list[str]:
    problems = audit["problems"]
    return ["\n".join(["fails in training", *(f"  {each}" for each in problems)])] * bool(problems)


def _head(audit: Audit) -> str:
    batches = _counted(audit["batches"], "batch", "batches")
    layers = _counted(audit["layers"], "layer follows", "layers follow")
    where = f"{_location(audit)}: " if audit["line"] else ""
    lines = [
        f"{where}{audit['method']} of {audit['model']}: {layers} the precision, {batches} of "
        f"{audit['rows']} rows"
    ]
    if not audit["layers"]:
        lines.append("  no layer follows: all were given a dtype, or the policy is no mixed one")
    kept = [f"{each['layer']} ({each['dtype']})" for each in audit["float32"]["own_dtype"]]
    if kept:
        lines.append(f"  keep a dtype of their own: {', '.join(kept)}")
    if audit["float32"]["not_finite"]:
        layers = ", ".join(audit["float32"]["not_finite"])
        lines.append(f"  inf or NaN in float32 too, which no pin mends: {layers}")
    return "\n".join(lines)


def _precision(audit: Audit, problems: Sequence[str]) -> str:
    lines = [audit["precision"]]
    lines += _rows([(_location(f), _name(f), f["what"], f["said"]) for f in audit["findings"]])
    if not audit["findings"]:
        fails = any(each.startswith(f"{audit['precision']}:") for each in problems)
        no_layer = "no layer is at fault in the first step, but it fails in training, see below"
        lines.append(f"  {no_layer}" if fails else "  nothing found: nothing to pin")
    if audit["pins"]:
        lines.append(f"  to pin to float32, and this batch is clean{_minimal(audit)}:")
        lines += _rows([(_location(p), _name(p), _remedy(p)) for p in audit["pins"]])
    elif audit["left"]:
        lines.append("  no pins help: this does not come from the layers' precision alone")
    lines += _about_the_scale(audit)
    return "\n".join(lines)


def _minimal(audit: Audit) -> str:
    return "" if audit["is_minimal"] else " (fewer may be enough, the search was cut short)"


def _about_the_scale(audit: Audit) -> Iterator[str]:
    if not audit["is_scaled"]:
        yield (
            "  its train_step does not scale the loss, and the optimizer divides by the scale all "
            "the same: loss = self.optimizer.scale_loss(loss) before the gradients"
        )
    elif "lost_unscaled" in audit:
        plain = audit["lost_unscaled"]
        shares = [f"{share:.0%} in {name}" for name, share in plain["layers"].items()]
        yield (
            f"  at the loss scale {audit['loss_scale']:g} {audit['lost']:.1%} of the gradients' "
            f"numbers become 0, without it {plain['all']:.1%}{_listed(shares)}"
        )


def _listed(shares: Sequence[str]) -> str:
    more = [f"{len(shares) - _MOST_ROWS} more layers"] if len(shares) > _MOST_ROWS else []
    return f" ({', '.join([*shares[:_MOST_ROWS], *more])})" if shares else ""


def _remedy(layer: Audit) -> str:
    """Return the change of the script that pins a layer."""
    if layer["line"] and not layer["made_by_keras"]:
        return 'dtype="float32"'
    getters = "".join(f".get_layer({name!r})" for name in layer["layer"].split("/"))
    return f'model{getters}.dtype_policy = "float32" before compile'


def _table(audit: Audit) -> str:
    plain = audit["measured"][0]
    metrics = list(dict.fromkeys(name for each in audit["measured"] for name in each["metrics"]))
    steps = max(each["steps"] for each in audit["measured"])
    rows = [("a step", "ms", "speed-up", *(f"{name} after {steps}" for name in metrics))]
    for each in audit["measured"]:
        pins = _counted(len(each["pins"]), "pin", "pins") if each["pins"] else ""
        skipped = f"{each['skipped']} skipped" if each["skipped"] else ""
        precision = each["precision"] if audit["layers"] else "its own dtypes"
        name = ", ".join(filter(None, (precision, pins, skipped)))
        if each["error"]:
            rows.append((name, each["error"]))
            continue
        values = [_metric(each, plain, metric) for metric in metrics]
        speed_up = plain["step_s"] / each["step_s"] if plain["step_s"] else 0.0
        rows.append((name, f"{1000 * each['step_s']:.2f}", f"{speed_up:.2f}", *values))
    return "\n".join(_rows(rows, indent=""))


def _metric(audit: Audit, plain: Audit, name: str) -> str:
    if name not in audit["metrics"]:
        return ""
    value, before = audit["metrics"][name], plain["metrics"].get(name)
    if audit is plain or before is None:
        return f"{value:.4g}"
    difference = f" ({value - before:+.1g})" if math.isfinite(value - before) else ""
    return f"{value:.4g}{difference}"


def _auto(audit: Audit) -> str:
    choice = audit["auto"]
    line = f'precision="auto" takes {choice["precision"]} here: {choice["reason"]}'
    plain = audit["measured"][0]
    own = [m for m in audit["measured"] if m["precision"] == choice["precision"] and m["step_s"]]
    if audit["layers"] and own and 0 < plain["step_s"] < _SLOWER * own[-1]["step_s"]:
        line += ". That is a table; this model is faster without it"
    return line


def _rows(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Format rows in columns of equal width; the last cell of a row is not padded."""
    shown = rows[:_MOST_ROWS]
    widths: dict[int, int] = {}
    for row in shown:
        for place, cell in enumerate(row[:-1]):
            widths[place] = max(widths.get(place, 0), len(cell))
    lines = [
        (indent + "  ".join(f"{cell:<{widths.get(i, 0)}}" for i, cell in enumerate(row))).rstrip()
        for row in shown
    ]
    more = len(rows) - len(shown)
    return [*lines, f"{indent}and {more} more: --json lists them"] if more else lines


def _location(audit: Audit) -> str:
    return f"{audit['line'][0]}:{audit['line'][1]}" if audit["line"] else ""


def _name(layer: Audit) -> str:
    return f"{layer['kind']} {layer['layer']!r}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
