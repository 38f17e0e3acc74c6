"""What a benchmark has found, in one form: printed, and kept for the table of all of them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

KEEP_IN = "KERAS_CANDLE_BENCHMARK_CLAIMS"
"""Environment variable: the file that claims are appended to, one JSON object a line."""


@dataclass(frozen=True)
class Claim:
    """One comparison.

    Attributes:
        what: is compared.
        ours: our value.
        unit: of both values; "" for a number.
        peer: what it is compared with; "" for a claim about a value alone.
        theirs: the peer's value.
        at_most: what the ratio ours / theirs, or our value alone, must not pass; None: no bound.
        at_least: what it must come to; None: no bound.
    """

    what: str
    ours: float
    unit: str = ""
    peer: str = ""
    theirs: float | None = None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours by theirs; None where there is no peer."""
        if self.theirs is None:
            return None
        if self.theirs == 0:
            return 1.0 if self.ours == 0 else float("inf")
        return self.ours / self.theirs

    @property
    def holds(self) -> bool:
        """Whether it is within its bounds."""
        value = self.ours if self.ratio is None else self.ratio
        above = self.at_least is not None and value < self.at_least
        return not above and (self.at_most is None or value <= self.at_most)

    @property
    def asked(self) -> str:
        """The bounds in words."""
        most = None if self.at_most is None else f"at most {self.at_most:g}"
        least = None if self.at_least is None else f"at least {self.at_least:g}"
        return ", ".join(filter(None, (least, most)))

    def value(self, number: float) -> str:
        """A value with its unit."""
        return f"{number:.4g} {self.unit}".rstrip()

    def __str__(self) -> str:
        parts = [f"{self.what}: {self.value(self.ours)}"]
        if self.theirs is not None:
            parts.append(f"{self.peer} {self.value(self.theirs)}")
            parts.append(f"ratio {self.ratio:.3g}")
        text = ", ".join(parts)
        missed = "" if self.holds else ": MISSED"
        return f"{text} ({self.asked}{missed})" if self.asked else text


def claim(
    what: str,
    ours: float,
    unit: str = "",
    *,
    peer: tuple[str, float] | None = None,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Claim:
    """Print what was found, and keep it where the suite asks for it; see `Claim`."""
    name, theirs = peer or ("", None)
    found = Claim(what, ours, unit, name, theirs, at_most, at_least)
    print(found, flush=True)
    file = os.environ.get(KEEP_IN)
    if file:
        with Path(file).open("a") as kept:
            kept.write(json.dumps(asdict(found)) + "\n")
    return found
