"""What is wrong in a step: which layer, and what."""

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
    """One thing that 16 bits do to a layer.

    Attributes:
        part: the layer where it begins.
        kind: INF, NAN, UNDERFLOW, CONSTANT, GRADIENT or ERROR.
        said: what, in a few words.
    """

    part: Part
    kind: str
    said: str


def findings_of(step: AuditStep, parts: Sequence[Part]) -> list[PrecisionFinding]:
    """What is wrong in a step, in the order of the calls; constants apart.

    Args:
        step: in 16 bits.
        parts: of the model.

    Returns:
        Nothing of layers that only pass on what others began.
    """
    found = [each for told in step.outputs.outputs.values() for each in _of_outputs(told)]
    if step.error:
        found.append(PrecisionFinding(step.outputs.broke or parts[0], ERROR, step.error))
    elif not any(each.kind in (INF, NAN) for each in found):
        found += _of_gradients(step, parts)
    return found


def findings_of_constants(constants: Sequence[Constant]) -> list[PrecisionFinding]:
    """The constants that float16 cannot hold, as findings."""
    return [
        PrecisionFinding(each.part, CONSTANT, f"constant {each.value:g} becomes {each.becomes}")
        for each in constants
    ]


def _of_outputs(told: Outputs) -> Iterator[PrecisionFinding]:
    counts = told.counts
    if told.begins:
        numbers = [(counts.infinite, "inf"), (counts.nan, "NaN")]
        shown = " and ".join(f"{number:,} {what}" for number, what in numbers if number)
        of = f" of {counts.values:,} numbers" if shown else "inf or NaN in its own arithmetic"
        said = f"{shown}{of}, from inputs up to {told.largest_input:.3g}"
        yield PrecisionFinding(told.part, NAN if counts.nan and not counts.infinite else INF, said)
    if told.fades:
        share = counts.share(counts.underflow)
        yield PrecisionFinding(
            told.part, UNDERFLOW, f"{share:.0%} of {counts.values:,} numbers become 0"
        )


def _of_gradients(step: AuditStep, parts: Sequence[Part]) -> Iterator[PrecisionFinding]:
    owners = owners_of(parts)
    for path, counts in step.counts.items():
        part = owners.get(path, parts[0])
        name = path.rpartition("/")[2]
        bad = counts.infinite + counts.nan
        if bad:
            said = f"{bad:,} of {counts.values:,} numbers of {name}'s gradient are inf or NaN"
            yield PrecisionFinding(part, GRADIENT, f"{said}, whatever the loss scale")
        elif step.is_scaled and counts.share(counts.underflow) > LOST_SHARE:
            share = counts.share(counts.underflow)
            scaled = f" at the loss scale {step.scale:g}" if step.scale > 1 else ""
            yield PrecisionFinding(
                part, GRADIENT, f"{share:.0%} of {name}'s gradient become 0{scaled}"
            )


def owners_of(parts: Sequence[Part]) -> dict[str, Part]:
    """The innermost layer that each variable belongs to, by the variable's path."""
    owners: dict[str, Part] = {}
    for part in parts:  # an outer one comes before its inner ones
        variables: list[Any] = part.layer.variables
        owners.update({variable.path: part for variable in variables})
    return owners
