"""Format a precision audit as text for a terminal."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
    blocks = [_head(audit), *map(_precision, audit["precisions"]), _table(audit), _auto(audit)]
    return "\n\n".join(blocks)


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


def _precision(audit: Audit) -> str:
    lines = [audit["precision"]]
    lines += _rows([(_location(f), _name(f), f["what"], f["said"]) for f in audit["findings"]])
    if not audit["findings"]:
        lines.append("  nothing found: nothing to pin")
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
        name = ", ".join(filter(None, (each["precision"], pins, skipped)))
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
    if own and 0 < plain["step_s"] < _SLOWER * own[-1]["step_s"]:
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
