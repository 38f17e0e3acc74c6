"""Find defects in 16 bits, and a minimal set of layers to pin to float32 that removes them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from keras_candle.precision_audit.constants import Constant, ConstantSearch
from keras_candle.precision_audit.layers import FLOAT16, Part, operations_before
from keras_candle.precision_audit.outputs import LOST_SHARE, Outputs
from keras_candle.precision_audit.step import AuditStep, Bench

INF, NAN, UNDERFLOW = "inf", "nan", "underflow"
CONSTANT, GRADIENT, LOSS, ERROR = "constant", "gradient", "loss", "error"
# Each try runs one step with every layer watched.
_MOST_TRIES, _MOST_S = 60, 120.0


@dataclass(frozen=True)
class PrecisionFinding:
    """A defect that 16 bits cause in a layer.

    Attributes:
        part: the layer where it begins.
        kind: INF, NAN, UNDERFLOW, CONSTANT, GRADIENT, LOSS or ERROR.
        description: in a few words.
    """

    part: Part
    kind: str
    description: str


def findings_of(
    step: AuditStep, parts: Sequence[Part], exact: AuditStep | None = None
) -> list[PrecisionFinding]:
    """Return the findings of a step, without constants, in the order of the calls.

    Args:
        step: a step in 16 bits.
        parts: the parts of the model.
        exact: the step in float32; None without one.

    Returns:
        The findings, only of layers where a defect begins.
    """
    found = [each for seen in step.outputs.outputs.values() for each in _of_outputs(seen)]
    if step.error:
        found.append(PrecisionFinding(step.outputs.failed or parts[0], ERROR, step.error))
    elif not any(each.kind in (INF, NAN) for each in found):
        found += _of_gradients(step, parts)
        found += _of_losses(step, parts[0], exact)
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


def _of_losses(step: AuditStep, model: Part, exact: AuditStep | None) -> Iterator[PrecisionFinding]:
    """Losses that are not finite, though all outputs are: a sum may overflow, its gradient not."""
    in_float32 = exact.losses if exact else {}
    for name, value in step.losses.items():
        if not math.isfinite(value) and math.isfinite(in_float32.get(name, 0.0)):
            yield PrecisionFinding(model, LOSS, f"{name} is {value:g}, and no output is")


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


@dataclass
class Pinned:
    """The findings in one precision, and the pins that remove them.

    Attributes:
        findings: those without pins, and further ones that appear once some layers are pinned.
        step: the batch's step without pins.
        parts: the layers to pin, in the order of the model; empty where none is needed or none
            helps.
        left: the findings that remain with the pins.
        with_pins: the step with the pins.
        is_minimal: whether each of the pins is known to be needed.
    """

    findings: list[PrecisionFinding]
    step: AuditStep
    parts: list[Part] = field(default_factory=list)
    left: list[PrecisionFinding] = field(default_factory=list)
    with_pins: AuditStep | None = None
    is_minimal: bool = True

    @property
    def names(self) -> list[str]:
        """The names of the pinned parts."""
        return [part.name for part in self.parts]


class PinSearch:
    """Searches the pins of one precision.

    Args:
        bench: the model and a batch.
        precision: mixed_float16 or mixed_bfloat16.
        exact: the batch's step in float32.
        constants: the search for the model's constants; None to skip it.
    """

    def __init__(
        self, bench: Bench, precision: str, exact: AuditStep, constants: ConstantSearch | None
    ) -> None:
        self._bench, self._precision, self._exact = bench, precision, exact
        self._constants = constants if precision == FLOAT16 else None
        self._tries, self._deadline = 0, time.monotonic() + _MOST_S
        self._parts = {part.name: part for part in bench.parts if _can_be_pinned(part)}

    def find(self) -> Pinned:
        """Add pins until the batch is clean, then remove those that are not needed."""
        findings, step = self._look([])
        found = Pinned(findings, step)
        if not findings:
            return found
        pins = self._grown(found)
        if pins is None:
            pins = list(self._parts)
            if self._look(pins)[0]:
                found.left = list(findings)
                return found
        pins = minimal_subset(pins, lambda names: self._may_try() and not self._look(names)[0])
        found.is_minimal = self._may_try()
        found.parts = [self._parts[name] for name in self._parts if name in pins]
        found.left, found.with_pins = self._look(pins)
        return found

    def _look(self, pins: Sequence[str]) -> tuple[list[PrecisionFinding], AuditStep]:
        self._tries += 1
        step = self._bench.step(self._precision, pins, self._exact)
        found = findings_of(step, self._bench.parts, self._exact)
        if self._constants is not None and not step.error:
            found += findings_of_constants(self._constants.found(pins))
        return found, step

    def _may_try(self) -> bool:
        return self._tries < _MOST_TRIES and time.monotonic() < self._deadline

    def _grown(self, found: Pinned) -> list[str] | None:
        """Pins without any finding; None where pinning the layers at fault does not help."""
        pins: dict[str, None] = {}
        findings = found.findings
        while findings and self._tries < _MOST_TRIES // 2 and self._may_try():
            more = {name for each in findings for name in self._blamed(each.part, pins)}
            if not more:
                return None
            pins |= dict.fromkeys(name for name in self._parts if name in more)
            findings = self._look(list(pins))[0]
            known = {(each.part.name, each.kind) for each in found.findings}
            found.findings = found.findings + [
                replace(each, description=f"{each.description}, once the layers above are pinned")
                for each in findings
                if (each.part.name, each.kind) not in known
            ]
        return None if findings else list(pins)

    def _blamed(self, part: Part, pins: dict[str, None]) -> list[str]:
        """The layers to pin for a finding in a part, without those pinned already."""
        if not part.is_layer:
            layers = {id(layer) for layer in operations_before(part.layer)}
            sources = [name for name, each in self._parts.items() if id(each.layer) in layers]
            return [name for name in sources if name not in pins]
        while part.inside_keras_layer and part.parent is not None:
            part = part.parent
        if part.name in self._parts and part.name not in pins and part.parent is not None:
            return [part.name]
        # A part's own arithmetic, between the calls of its layers, has their precision.
        inner = [name for name, each in self._parts.items() if each is part or each.parent is part]
        return [name for name in inner if name not in pins]


def _can_be_pinned(part: Part) -> bool:
    return part.follows and not part.inside_keras_layer


def minimal_subset(names: Sequence[str], is_enough: Callable[[Sequence[str]], bool]) -> list[str]:
    """Return a minimal subset that is enough: try without halves first, then without single names.

    Args:
        names: all names, which are enough; the empty set is not.
        is_enough: returns whether a subset is enough.

    Returns:
        Names of which none can be left out, as long as `is_enough` is consistent.

    Example:
        >>> minimal_subset("abcdefgh", lambda names: "c" in names and "g" in names)
        ['c', 'g']
    """
    kept = list(names)
    size = (len(kept) + 1) // 2
    while size:
        start = 0
        while start < len(kept):
            rest = kept[:start] + kept[start + size :]
            if rest and is_enough(rest):
                kept = rest
            else:
                start += size
        size = size // 2
    return kept
