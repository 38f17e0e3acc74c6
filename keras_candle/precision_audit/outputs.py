"""What comes out of each layer, and where what is wrong with it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_candle.precision_audit.calls import CallRecorder
from keras_candle.precision_audit.layers import Part
from keras_candle.precision_audit.values import Array, Counts, Reference, count, reference_of

# Of an output: a layer that gets more than that from another one is not to blame for it.
LOST_SHARE = 0.01


@dataclass
class Outputs:
    """What came out of one part, in all of its calls.

    Attributes:
        part: the layer.
        counts: of all that came out in 16 bits, and of what is not finite in any format.
        dtypes: that came out.
        begins: whether values that are not finite begin here: what went in was finite.
        fades: whether values that are lost as too small are lost here.
        largest_input: the largest finite magnitude that went in.
    """

    part: Part
    counts: Counts = field(default_factory=Counts)
    dtypes: set[str] = field(default_factory=set)
    begins: bool = False
    fades: bool = False
    largest_input: float = 0.0


@dataclass
class _Frame:
    """One call.

    Attributes:
        part: what is called.
        number: of the call among the part's calls.
        bad: whether values that are not finite went in, or were seen inside.
        faded: whether something went in that lost values as too small.
    """

    part: Part
    number: int
    bad: bool = False
    faded: bool = False


class OutputWatch(CallRecorder):
    """Counts what comes out of each layer of a step that runs eagerly.

    Args:
        parts: of the model.
        exact: the watch of the same step in float32; None when this is that one.

    Attributes:
        outputs: by the name of the part.
        broke: the innermost part whose call raised.
    """

    def __init__(self, parts: Sequence[Part], exact: OutputWatch | None = None) -> None:
        super().__init__(parts)
        self.outputs: dict[str, Outputs] = {}
        self.broke: Part | None = None
        self._exact = exact
        self._calls: dict[str, int] = {}
        self._frames: list[_Frame] = []
        # (name, number of the call, number of the tensor) -> what came out
        self._kept: dict[tuple[str, int, int], Reference] = {}
        # (name, number of the call) -> numbers that went in and are not finite
        self._not_finite: dict[tuple[str, int], int] = {}
        # Tensors with values that were lost. They are kept, so that no other one gets their id.
        self._faded: dict[int, Any] = {}

    def call(self, plain: Any, layer: Any, args: Any, kwargs: Any) -> Any:
        """See `CallRecorder`; takes note of the call that raises."""
        depth = len(self._frames)
        try:
            return super().call(plain, layer, args, kwargs)
        except Exception:
            self.broke = self.broke or self._part(layer)
            raise
        finally:
            del self._frames[depth:]

    def begin(self, part: Part, inputs: Any) -> None:
        """See `CallRecorder`."""
        number = self._calls[part.name] = self._calls.get(part.name, -1) + 1
        tensors = _float_tensors(inputs)
        told = self._precision_facts(part)
        not_finite = 0
        for array in map(_as_float32, tensors):
            finite = np.isfinite(array)
            not_finite += int(array.size - finite.sum())
            largest = np.max(np.abs(array), initial=0.0, where=finite)
            told.largest_input = max(told.largest_input, float(largest))
        self._not_finite[part.name, number] = not_finite
        if self._exact is not None:
            not_finite -= self._exact._not_finite.get((part.name, number), 0)
        faded = any(id(tensor) in self._faded for tensor in tensors)
        outer = self._frames[-1] if self._frames else None
        if not_finite > 0 and outer is not None and not outer.bad:
            # Made between the calls inside of the outer one: by its own arithmetic.
            self._precision_facts(outer.part).begins = outer.bad = True
        self._frames.append(_Frame(part, number, not_finite > 0, faded))

    def end(self, part: Part, outputs: Any) -> None:
        """See `CallRecorder`."""
        frame, told = self._frames.pop(), self._precision_facts(part)
        bad = False
        for place, tensor in enumerate(_float_tensors(outputs)):
            counts = self._count(frame, place, tensor)
            bad = bad or counts.infinite + counts.nan > 0
            told.counts += counts
            told.dtypes.add(tensor.dtype.name)
            if counts.share(counts.underflow) > LOST_SHARE:
                told.fades = told.fades or (not frame.faded and id(tensor) not in self._faded)
                self._faded[id(tensor)] = tensor
        if bad:
            told.begins = told.begins or not frame.bad
            if self._frames:
                self._frames[-1].bad = True

    def _count(self, frame: _Frame, place: int, tensor: Any) -> Counts:
        array, key = _as_float32(tensor), (frame.part.name, frame.number, place)
        if self._exact is None:
            self._kept[key] = reference_of(array)
            return count(array, tensor.dtype.name, None)
        return count(array, tensor.dtype.name, self._exact._kept.get(key))

    def _precision_facts(self, part: Part) -> Outputs:
        return self.outputs.setdefault(part.name, Outputs(part))


def _float_tensors(structure: Any) -> list[Any]:
    """The eager tensors of floating point in a structure."""
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
