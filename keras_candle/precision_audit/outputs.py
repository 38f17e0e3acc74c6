"""Count each layer's outputs in 16 bits, and find the layer where a defect begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_candle.precision_audit.calls import CallRecorder
from keras_candle.precision_audit.layers import Part
from keras_candle.precision_audit.values import Array, Counts, Reference, count, reference_of

# The fraction of an output that becomes 0. A layer whose input has lost more is not its origin.
LOST_SHARE = 0.01


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
