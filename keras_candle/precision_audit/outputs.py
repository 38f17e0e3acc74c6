"""Count the values that a layer's outputs lose in 16 bits, and find the layer where it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_candle.precision_audit.layers import CallRecorder, Part

Array = np.ndarray[Any, Any]
# The fraction of an output that becomes 0. A layer whose input has lost more is not its origin.
LOST_SHARE = 0.01


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


@dataclass
class Outputs:
    """The outputs of one part, in all of its calls.

    Attributes:
        part: the layer.
        counts: of all outputs in 16 bits, and of non-finite values in any format.
        dtypes: of the outputs.
        begins: whether non-finite values begin here: the inputs were finite.
        fades: whether values that are too small become 0 here.
        largest_input: the largest finite magnitude of the inputs.
    """

    part: Part
    counts: Counts = field(default_factory=Counts)
    dtypes: set[str] = field(default_factory=set)
    begins: bool = False
    fades: bool = False
    largest_input: float = 0.0


@dataclass
class _Frame:
    """One call that has begun.

    Attributes:
        part: the called part.
        number: of the call among the part's calls.
        bad: whether an input, or a value inside, is not finite.
        faded: whether an input has lost values that were too small.
    """

    part: Part
    number: int
    bad: bool = False
    faded: bool = False


class OutputWatch(CallRecorder):
    """Counts the outputs of each layer of a step that runs eagerly.

    Args:
        parts: the parts of the model.
        exact: the watch of the same step in float32; None for that step itself.

    Attributes:
        outputs: by the name of the part.
        failed: the innermost part whose call raised.
    """

    def __init__(self, parts: Sequence[Part], exact: OutputWatch | None = None) -> None:
        super().__init__(parts)
        self.outputs: dict[str, Outputs] = {}
        self.failed: Part | None = None
        self._exact = exact
        self._calls: dict[str, int] = {}
        self._frames: list[_Frame] = []
        # (name, number of the call, number of the tensor) -> the output
        self._kept: dict[tuple[str, int, int], Reference] = {}
        # (name, number of the call) -> the count of non-finite inputs
        self._not_finite: dict[tuple[str, int], int] = {}
        # Tensors with values that were lost. They are kept, so that no new one gets their id.
        self._faded: dict[int, Any] = {}

    def call(self, plain: Any, layer: Any, args: Any, kwargs: Any) -> Any:
        """Call a layer as `CallRecorder` does, and record the call that raises."""
        depth = len(self._frames)
        try:
            return super().call(plain, layer, args, kwargs)
        except Exception:
            self.failed = self.failed or self._part(layer)
            raise
        finally:
            del self._frames[depth:]

    def begin(self, part: Part, inputs: Any) -> None:
        """Count the inputs of a call that are not finite."""
        number = self._calls[part.name] = self._calls.get(part.name, -1) + 1
        tensors = _float_tensors(inputs)
        seen = self._outputs_of(part)
        not_finite = 0
        for array in map(_as_float32, tensors):
            finite = np.isfinite(array)
            not_finite += int(array.size - finite.sum())
            largest = np.max(np.abs(array), initial=0.0, where=finite)
            seen.largest_input = max(seen.largest_input, float(largest))
        self._not_finite[part.name, number] = not_finite
        if self._exact is not None:
            not_finite -= self._exact._not_finite.get((part.name, number), 0)
        faded = any(id(tensor) in self._faded for tensor in tensors)
        outer = self._frames[-1] if self._frames else None
        if not_finite > 0 and outer is not None and not outer.bad:
            # Between the calls inside the outer one: by its own arithmetic.
            self._outputs_of(outer.part).begins = outer.bad = True
        self._frames.append(_Frame(part, number, not_finite > 0, faded))

    def end(self, part: Part, outputs: Any) -> None:
        """Count the outputs of a call."""
        frame, seen = self._frames.pop(), self._outputs_of(part)
        bad = False
        for place, tensor in enumerate(_float_tensors(outputs)):
            counts = self._count(frame, place, tensor)
            bad = bad or counts.infinite + counts.nan > 0
            seen.counts += counts
            seen.dtypes.add(tensor.dtype.name)
            if counts.share(counts.underflow) > LOST_SHARE:
                seen.fades = seen.fades or (not frame.faded and id(tensor) not in self._faded)
                self._faded[id(tensor)] = tensor
        if bad:
            seen.begins = seen.begins or not frame.bad
            if self._frames:
                self._frames[-1].bad = True

    def _count(self, frame: _Frame, place: int, tensor: Any) -> Counts:
        array, key = _as_float32(tensor), (frame.part.name, frame.number, place)
        if self._exact is None:
            self._kept[key] = reference_of(array)
            return count(array, tensor.dtype.name, None)
        return count(array, tensor.dtype.name, self._exact._kept.get(key))

    def _outputs_of(self, part: Part) -> Outputs:
        return self.outputs.setdefault(part.name, Outputs(part))


def _float_tensors(structure: Any) -> list[Any]:
    """The eager floating-point tensors in a structure."""
    found = []
    for each in keras.tree.flatten(structure):
        dtype = getattr(each, "dtype", None)
        if getattr(dtype, "is_floating", False) and hasattr(each, "numpy"):
            found.append(each)
    return found


def _as_float32(tensor: Any) -> Array:
    array = tensor.numpy()
    if array.dtype != np.float32:
        array = keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
    return np.asarray(array)
