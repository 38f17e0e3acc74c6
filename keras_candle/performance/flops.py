"""Count the floating-point operations of a model's layers, by formula, while a step is traced.

Multiplications and additions of matrix products and convolutions count, 2 for each pair;
element-wise operations (activations, normalisation, pooling) do not. This is the usual
"model FLOPs" (Chowdhery et al. 2022, PaLM, appendix B), and approximate.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from keras_candle.keras_private.models import layers_inside

# The shape of one row, without the batch dimension.
Shape = tuple[int, ...]
# A training step computes the gradients of the inputs and of the weights: twice the forward pass.
TRAINING_FACTOR = 3


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer, with the shapes of its inputs and output."""

    layer: Any
    inputs: list[Shape]
    output: Shape


Formula = Callable[[LayerCall], float]


class FlopsCount:
    """Counts the operations of one row's forward pass while a step is traced.

    Attributes:
        forward: floating-point operations of a row's forward pass, over all known layers.
        unknown: names of layers with weights whose formula or shapes are unknown.
    """

    def __init__(self) -> None:
        self.forward = 0.0
        self.unknown: list[str] = []
        self._inside = 0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Count the calls of layers inside a `with` block, in this process."""
        plain = keras.Layer.__call__

        @functools.wraps(plain)
        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            formula = None if self._inside else _formula_of(layer)
            own = formula is not None and not isinstance(layer, _WITH_LAYERS)
            self._inside += own
            try:
                outputs = plain(layer, *args, **kwargs)
            finally:
                self._inside -= own
            if not self._inside:
                self._add(layer, formula, args, kwargs, outputs)
            return outputs

        keras.Layer.__call__ = call
        try:
            yield
        finally:
            keras.Layer.__call__ = plain

    def _add(self, layer: Any, formula: Any, args: Any, kwargs: Any, outputs: Any) -> None:
        if formula is None:
            if _multiplies(layer):
                self._record(layer)
            return
        try:
            inputs = [_shape(each) for each in keras.tree.flatten((args, kwargs)) if _is_data(each)]
            self.forward += formula(
                LayerCall(layer, inputs, _shape(keras.tree.flatten(outputs)[0]))
            )
        except (TypeError, IndexError, ValueError):  # an unknown dimension
            self._record(layer)

    def _record(self, layer: Any) -> None:
        if layer.name not in self.unknown:
            self.unknown.append(layer.name)


def _is_data(value: Any) -> bool:
    return len(getattr(value, "shape", None) or ()) > 1


def _shape(tensor: Any) -> Shape:
    return tuple(tensor.shape)[1:]


def _multiplies(layer: Any) -> bool:
    """Whether a layer has matrices of its own, besides those of its inner layers."""
    if isinstance(layer, _WITHOUT):
        return False
    inner = {id(each) for sub in layers_inside(layer) for each in sub.weights}
    own = [each for each in layer.trainable_weights if id(each) not in inner]
    return any(len(each.shape) > 1 for each in own)


def _dense(call: LayerCall) -> float:
    return 2.0 * math.prod(call.output) * call.inputs[0][-1]


def _einsum_dense(call: LayerCall) -> float:
    equation = call.layer.equation
    left, _, right = equation.replace("...", "").partition("->")
    of_input, of_kernel = left.split(",")
    sizes: dict[str, int] = dict(zip(of_kernel, call.layer.kernel.shape, strict=True))
    sizes |= dict(zip(reversed(of_input), reversed(call.inputs[0]), strict=False))
    sizes |= dict(zip(reversed(right), reversed(call.output), strict=False))
    if "..." in equation:
        leading = call.output[: len(call.output) - len(right)]
        return 2.0 * math.prod(sizes.values()) * math.prod(leading)
    # Without the first index, the batch's: one row is counted.
    return 2.0 * math.prod(size for index, size in sizes.items() if index != of_input[0])


def _size(kernel: Any) -> int:
    return int(math.prod(kernel.shape))


def _places(call: LayerCall, shape: Shape) -> int:
    """The number of positions at which a kernel is applied."""
    first = call.layer.data_format == "channels_first"
    return math.prod(shape[1:] if first else shape[:-1])


def _convolution(call: LayerCall) -> float:
    return 2.0 * _places(call, call.output) * _size(call.layer.kernel)


def _transposed(call: LayerCall) -> float:
    return 2.0 * _places(call, call.inputs[0]) * _size(call.layer.kernel)


def _separable(call: LayerCall) -> float:
    kernels = (call.layer.depthwise_kernel, call.layer.pointwise_kernel)
    return 2.0 * _places(call, call.output) * sum(map(_size, kernels))


def _recurrent(gates: int) -> Formula:
    def flops(call: LayerCall) -> float:
        (steps, features), units = call.inputs[0], int(call.layer.units)
        return 2.0 * gates * steps * units * (features + units)

    return flops


def _scores(call: LayerCall, heads: int, width: int, values: int) -> float:
    queries, keys = call.inputs[0][-2], call.inputs[min(1, len(call.inputs) - 1)][-2]
    return 2.0 * heads * queries * keys * (width + values)


def _attention(call: LayerCall) -> float:
    return _scores(call, 1, call.inputs[0][-1], call.output[-1])


def _multi_head(call: LayerCall) -> float:
    # The projections are separate layers.
    return _scores(call, call.layer.num_heads, call.layer.key_dim, call.layer.value_dim)


def _grouped_query(call: LayerCall) -> float:
    return _scores(call, call.layer.num_query_heads, call.layer.head_dim, call.layer.head_dim)


def _at_each_time(call: LayerCall) -> float:
    # It bypasses its layer's __call__; an inner model calls its own layers as usual.
    inner = call.layer.layer
    formula = _formula_of(inner)
    if formula is not None:
        return call.inputs[0][0] * formula(LayerCall(inner, [call.inputs[0][1:]], call.output[1:]))
    if _multiplies(inner):
        raise ValueError(f"No formula is known for {inner.name}.")
    return 0.0


_FORMULAS: dict[str, Formula] = {
    "Dense": _dense,
    "EinsumDense": _einsum_dense,
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _convolution),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _convolution),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _transposed),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    "SimpleRNN": _recurrent(1),
    "GRU": _recurrent(3),
    "LSTM": _recurrent(4),
    **dict.fromkeys(("Attention", "AdditiveAttention"), _attention),
    "MultiHeadAttention": _multi_head,
    "GroupedQueryAttention": _grouped_query,
    "TimeDistributed": _at_each_time,
}
_WITH_LAYERS = (layers.MultiHeadAttention, layers.GroupQueryAttention, layers.TimeDistributed)
_WITHOUT = (layers.Embedding, layers.Normalization)


def _formula_of(layer: Any) -> Formula | None:
    """The formula of a Keras layer class, or of a class that inherits its `call`."""
    for kind in type(layer).__mro__:
        if kind.__module__.startswith("keras."):
            if kind.__name__ in _FORMULAS:
                return _FORMULAS[kind.__name__]
        elif "call" in vars(kind):
            return None
    return None
