"""Search for a minimal set of layers to pin to float32, with which a batch is clean."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from keras_candle.precision_audit.calls import operations_before
from keras_candle.precision_audit.constants import ConstantSearch
from keras_candle.precision_audit.findings import (
    PrecisionFinding,
    findings_of,
    findings_of_constants,
)
from keras_candle.precision_audit.layers import FLOAT16, Part
from keras_candle.precision_audit.step import AuditStep, Bench

# Each try runs one step with every layer watched.
_MOST_TRIES, _MOST_S = 60, 120.0


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
        found = findings_of(step, self._bench.parts)
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
