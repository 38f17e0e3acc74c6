"""The findings of a step in 16 bits: which layer, which kind, and a description."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from keras_candle.precision_audit.constants import Constant
from keras_candle.precision_audit.layers import Part
from keras_candle.precision_audit.outputs import LOST_SHARE, Outputs
from keras_candle.precision_audit.step import AuditStep

INF, NAN, UNDERFLOW = "inf", "nan", "underflow"
CONSTANT, GRADIENT, ERROR = "constant", "gradient", "error"


@dataclass(frozen=True)
class PrecisionFinding:
    """A defect that 16 bits cause in a layer.

    Attributes:
        part: the layer where it begins.
        kind: INF, NAN, UNDERFLOW, CONSTANT, GRADIENT or ERROR.
        description: in a few words.
    """

    part: Part
    kind: str
    description: str


def findings_of(step: AuditStep, parts: Sequence[Part]) -> list[PrecisionFinding]:
    """Return the findings of a step, without constants, in the order of the calls.

    Args:
        step: a step in 16 bits.
        parts: the parts of the model.

    Returns:
        The findings, only of layers where a defect begins.
    """
    found = [each for seen in step.outputs.outputs.values() for each in _of_outputs(seen)]
    if step.error:
        found.append(PrecisionFinding(step.outputs.failed or parts[0], ERROR, step.error))
    elif not any(each.kind in (INF, NAN) for each in found):
        found += _of_gradients(step, parts)
    return found


def findings_of_constants(constants: Sequence[Constant]) -> list[PrecisionFinding]:
    """Return constants that float16 cannot hold as findings."""
    return [
        PrecisionFinding(each.part, CONSTANT, f"constant {each.value:g} becomes {each.becomes}")
        for each in constants
    ]


def _of_outputs(outputs: Outputs) -> Iterator[PrecisionFinding]:
    counts = outputs.counts
    if outputs.begins:
        numbers = [(counts.infinite, "inf"), (counts.nan, "NaN")]
        shown = " and ".join(f"{number:,} {what}" for number, what in numbers if number)
        of = f" of {counts.values:,} numbers" if shown else "inf or NaN in its own arithmetic"
        kind = NAN if counts.nan and not counts.infinite else INF
        text = f"{shown}{of}, from inputs up to {outputs.largest_input:.3g}"
        yield PrecisionFinding(outputs.part, kind, text)
    if outputs.fades:
        share = counts.share(counts.underflow)
        yield PrecisionFinding(
            outputs.part, UNDERFLOW, f"{share:.0%} of {counts.values:,} numbers become 0"
        )


def _of_gradients(step: AuditStep, parts: Sequence[Part]) -> Iterator[PrecisionFinding]:
    owners = owners_of(parts)
    for path, counts in step.counts.items():
        part = owners.get(path, parts[0])
        name = path.rpartition("/")[2]
        bad = counts.infinite + counts.nan
        if bad:
            text = f"{bad:,} of {counts.values:,} numbers of {name}'s gradient are inf or NaN"
            yield PrecisionFinding(part, GRADIENT, f"{text}, at any loss scale")
        elif step.is_scaled and counts.share(counts.underflow) > LOST_SHARE:
            share = counts.share(counts.underflow)
            scaled = f" at the loss scale {step.scale:g}" if step.scale > 1 else ""
            yield PrecisionFinding(
                part, GRADIENT, f"{share:.0%} of {name}'s gradient become 0{scaled}"
            )


def owners_of(parts: Sequence[Part]) -> dict[str, Part]:
    """Return the innermost layer of each variable, by the variable's path."""
    owners: dict[str, Part] = {}
    for part in parts:  # an outer part precedes its inner ones
        variables: list[Any] = part.layer.variables
        owners.update({variable.path: part for variable in variables})
    return owners
