"""Count the values that 16 bits lose, against the same values in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Format:
    """A floating-point format.

    Attributes:
        largest: its largest finite number.
        smallest: its smallest normal number; smaller ones lose digits, and at last all of them.
    """

    largest: float
    smallest: float


# IEEE 754 binary16, and the upper half of binary32.
FORMATS = {"float16": Format(65504.0, 2.0**-14), "bfloat16": Format(3.3895e38, 2.0**-126)}


@dataclass(frozen=True)
class Counts:
    """Counts of the values of one or more arrays in 16 bits.

    Attributes:
        values: all numbers.
        infinite: infinities that are finite in float32.
        nan: NaNs that are none in float32.
        underflow: zeros that are not zero in float32 but too small for the format.
        subnormal: numbers below the smallest normal one, which have lost digits.
        largest: the largest finite magnitude.
    """

    values: int = 0
    infinite: int = 0
    nan: int = 0
    underflow: int = 0
    subnormal: int = 0
    largest: float = 0.0

    def __add__(self, more: Counts) -> Counts:
        """Return the counts of both."""
        return Counts(
            self.values + more.values,
            self.infinite + more.infinite,
            self.nan + more.nan,
            self.underflow + more.underflow,
            self.subnormal + more.subnormal,
            max(self.largest, more.largest),
        )

    def share(self, count: int) -> float:
        """Return a count as a fraction of all values."""
        return count / self.values if self.values else 0.0


@dataclass(frozen=True)
class Reference:
    """A summary of an array in float32: a bit for each number and format.

    Attributes:
        shape: of the array.
        infinite: the number of infinities.
        nan: the number of NaNs.
        small: format -> packed bits, set where a number is not zero but below the smallest normal
            one of the format. None where no number is.
    """

    shape: tuple[int, ...]
    infinite: int
    nan: int
    small: dict[str, Array | None]


def reference_of(array: Array, scale: float = 1.0) -> Reference:
    """Return the reference with which `count` compares an array.

    Args:
        array: the values in float32.
        scale: the factor by which they are multiplied before they are put into 16 bits.
    """
    size = np.abs(array) * np.float32(scale)
    small = {name: (size > 0) & (size < each.smallest) for name, each in FORMATS.items()}
    return Reference(
        array.shape,
        int(np.isinf(array).sum()),
        int(np.isnan(array).sum()),
        {name: np.packbits(bits) if bits.any() else None for name, bits in small.items()},
    )


def count(array: Array, dtype: str, reference: Reference | None) -> Counts:
    """Count the values of an array that its 16-bit format has lost.

    Args:
        array: the values, as float32.
        dtype: the format that they had.
        reference: of the same array in float32; None without one.

    Returns:
        The counts, without values that are the same in float32.

    Example:
        >>> exact = np.array([1e5, 1e-9, 1e-6, 0.0, 1.0], "float32")
        >>> half = np.array([np.inf, 0.0, 9.5e-7, 0.0, 1.0], "float32")  # as float16 holds them
        >>> counts = count(half, "float16", reference_of(exact))
        >>> counts.infinite, counts.underflow, counts.subnormal, counts.largest
        (1, 1, 1, 1.0)
    """
    if reference is not None and reference.shape != array.shape:
        reference = None  # the program took another branch
    finite = np.isfinite(array)
    infinite, nan = int(np.isinf(array).sum()), int(np.isnan(array).sum())
    underflow = subnormal = 0
    if reference is not None:
        infinite = max(0, infinite - reference.infinite)
        nan = max(0, nan - reference.nan)
        bits = reference.small.get(dtype)
        if bits is not None:
            small = np.unpackbits(bits, count=array.size).astype(bool).reshape(array.shape)
            underflow = int((small & (array == 0)).sum())
            subnormal = int((small & (array != 0) & finite).sum())
    largest = float(np.max(np.abs(array), initial=0.0, where=finite))
    return Counts(array.size, infinite, nan, underflow, subnormal, largest)
