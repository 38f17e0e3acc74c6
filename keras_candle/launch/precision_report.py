"""What an audit of precisions found, as text for a terminal."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Told = Mapping[str, Any]
# Findings of one kind in so many layers are told as the first ones and a number.
_MOST_ROWS = 12
# A speed-up below it is no measuring error.
_SLOWER = 0.9


def text(told: Told) -> str:
    """The whole audit.

    Args:
        told: as `keras_candle.precision_audit.audit.audit` returns it.
    """
    blocks = [_head(told), *map(_precision, told["precisions"]), _table(told), _auto(told)]
    return "\n\n".join(blocks)


def _head(told: Told) -> str:
    batches = _several(told["batches"], "batch", "batches")
    layers = _several(told["layers"], "layer follows", "layers follow")
    where = f"{_where(told)}: " if told["line"] else ""
    lines = [
        f"{where}{told['method']} of {told['model']}: {layers} the precision, {batches} of "
        f"{told['rows']} rows"
    ]
    if not told["layers"]:
        lines.append("  no layer follows: all were given a dtype, or the policy is no mixed one")
    kept = [f"{each['layer']} ({each['dtype']})" for each in told["float32"]["own_dtype"]]
    if kept:
        lines.append(f"  keep a dtype of their own: {', '.join(kept)}")
    if told["float32"]["not_finite"]:
        layers = ", ".join(told["float32"]["not_finite"])
        lines.append(f"  inf or NaN in float32 too, which no pin mends: {layers}")
    return "\n".join(lines)


def _precision(told: Told) -> str:
    lines = [told["precision"]]
    lines += _rows([(_where(f), _name(f), f["what"], f["said"]) for f in told["findings"]])
    if not told["findings"]:
        lines.append("  nothing found: nothing to pin")
    if told["pins"]:
        lines.append(f"  to pin to float32, and this batch is clean{_minimal(told)}:")
        lines += _rows([(_where(p), _name(p), _remedy(p)) for p in told["pins"]])
    elif told["left"]:
        lines.append("  no pins help: this does not come from the layers' precision alone")
    lines += _about_the_scale(told)
    return "\n".join(lines)


def _minimal(told: Told) -> str:
    return "" if told["is_minimal"] else " (fewer may be enough, the search was cut short)"


def _about_the_scale(told: Told) -> Iterator[str]:
    if not told["is_scaled"]:
        yield (
            "  its train_step does not scale the loss, and the optimizer divides by the scale all "
            "the same: loss = self.optimizer.scale_loss(loss) before the gradients"
        )
    elif "lost_unscaled" in told:
        plain = told["lost_unscaled"]
        shares = [f"{share:.0%} in {name}" for name, share in plain["layers"].items()]
        yield (
            f"  at the loss scale {told['loss_scale']:g} {told['lost']:.1%} of the gradients' "
            f"numbers become 0, without it {plain['all']:.1%}{_listed(shares)}"
        )


def _listed(shares: Sequence[str]) -> str:
    more = [f"{len(shares) - _MOST_ROWS} more layers"] if len(shares) > _MOST_ROWS else []
    return f" ({', '.join([*shares[:_MOST_ROWS], *more])})" if shares else ""


def _remedy(layer: Told) -> str:
    """The change to make."""
    if layer["line"] and not layer["made_by_keras"]:
        return 'dtype="float32"'
    getters = "".join(f".get_layer({name!r})" for name in layer["layer"].split("/"))
    return f'model{getters}.dtype_policy = "float32" before compile'


def _table(told: Told) -> str:
    plain = told["measured"][0]
    metrics = list(dict.fromkeys(name for each in told["measured"] for name in each["metrics"]))
    steps = max(each["steps"] for each in told["measured"])
    rows = [("a step", "ms", "speed-up", *(f"{name} after {steps}" for name in metrics))]
    for each in told["measured"]:
        pins = _several(len(each["pins"]), "pin", "pins") if each["pins"] else ""
        skipped = f"{each['skipped']} skipped" if each["skipped"] else ""
        name = ", ".join(filter(None, (each["precision"], pins, skipped)))
        if each["error"]:
            rows.append((name, each["error"]))
            continue
        values = [_metric(each, plain, metric) for metric in metrics]
        speed_up = plain["step_s"] / each["step_s"] if plain["step_s"] else 0.0
        rows.append((name, f"{1000 * each['step_s']:.2f}", f"{speed_up:.2f}", *values))
    return "\n".join(_rows(rows, indent=""))


def _metric(told: Told, plain: Told, name: str) -> str:
    if name not in told["metrics"]:
        return ""
    value, before = told["metrics"][name], plain["metrics"].get(name)
    if told is plain or before is None:
        return f"{value:.4g}"
    difference = f" ({value - before:+.1g})" if math.isfinite(value - before) else ""
    return f"{value:.4g}{difference}"


def _auto(told: Told) -> str:
    choice = told["auto"]
    line = f'precision="auto" takes {choice["precision"]} here: {choice["reason"]}'
    plain = told["measured"][0]
    own = [m for m in told["measured"] if m["precision"] == choice["precision"] and m["step_s"]]
    if own and 0 < plain["step_s"] < _SLOWER * own[-1]["step_s"]:
        line += ". That is a table; this model is faster without it"
    return line


def _rows(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Columns of equal width; the last cell of a row is as wide as it likes."""
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


def _where(told: Told) -> str:
    return f"{told['line'][0]}:{told['line'][1]}" if told["line"] else ""


def _name(layer: Told) -> str:
    return f"{layer['kind']} {layer['layer']!r}"


def _several(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
