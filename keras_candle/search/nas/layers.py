"""Tables of the layer kinds that a search chooses among, and layers that make shapes fit.

Each combination of choices gives a valid model: convolutions keep the size of their input, a skip
connection between different widths goes through a projection, and nothing is halved below one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_candle.errors import SearchError

# A trial of an architecture is short: with Keras's own .99 the moving statistics would still be
# near their initial values at its end.
MOMENTUM = 0.9


@dataclass(frozen=True)
class Choices:
    """The choices for one layer; None for a decision that its kind doesn't have.

    Attributes:
        kind: a key of `DENSE`, `CONV` or `TEXT`; None where the layer isn't there at all.
        width: units or filters.
        kernel: the convolution's size.
        heads: of an attention.
        skip: whether to add the layer's input to its output.
    """

    kind: str | None
    width: int | None = None
    kernel: int | None = None
    heads: int | None = None
    skip: bool | None = None


@dataclass(frozen=True)
class LayerKind:
    """One kind of layer.

    Attributes:
        build: (x, choices, width, name) -> a tensor of x's size with `width` or x's channels.
        decisions: the decisions that this kind has.
    """

    build: Callable[[Any, Choices, int, str], Any]
    decisions: frozenset[str]


def _identity(x: Any, choices: Choices, width: int, name: str) -> Any:  # noqa: ARG001
    return x


def _dense(x: Any, choices: Choices, width: int, name: str) -> Any:  # noqa: ARG001
    return keras.layers.Dense(width, "relu", name=f"{name}_dense")(x)


def _gated(x: Any, choices: Choices, width: int, name: str) -> Any:  # noqa: ARG001
    # Dauphin et al., Language Modeling with Gated Convolutional Networks (2017).
    gate = keras.layers.Dense(width, "sigmoid", name=f"{name}_gate")(x)
    return keras.layers.Multiply(name=f"{name}_gated")(
        [keras.layers.Dense(width, name=f"{name}_value")(x), gate]
    )


def _normed(x: Any, choices: Choices, width: int, name: str) -> Any:  # noqa: ARG001
    x = keras.layers.Dense(width, use_bias=False, name=f"{name}_dense")(x)
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(x)
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def _convolution(layer: str) -> Callable[[Any, Choices, int, str], Any]:
    def build(x: Any, choices: Choices, width: int, name: str) -> Any:
        make = getattr(keras.layers, layer)
        x = make(width, choices.kernel, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(x)
        return keras.layers.Activation("relu", name=f"{name}_relu")(x)

    return build


def _pool(layer: str) -> Callable[[Any, Choices, int, str], Any]:
    def build(x: Any, choices: Choices, width: int, name: str) -> Any:  # noqa: ARG001
        pooled = getattr(keras.layers, layer)(3, strides=1, padding="same", name=f"{name}_pool")
        return pooled(x)

    return build


def _attention(x: Any, choices: Choices, width: int, name: str) -> Any:
    # A head gets at least one channel, whatever the number of heads.
    heads = choices.heads or 1
    attend = keras.layers.MultiHeadAttention(
        heads, max(1, width // heads), output_shape=width, name=f"{name}_attention"
    )
    normed = keras.layers.LayerNormalization(name=f"{name}_norm")(x)
    return attend(normed, normed)


def _recurrent(x: Any, choices: Choices, width: int, name: str) -> Any:  # noqa: ARG001
    return keras.layers.GRU(width, return_sequences=True, name=f"{name}_gru")(x)


_WIDE = frozenset({"width", "skip"})
_IDENTITY = LayerKind(_identity, frozenset())

DENSE: Mapping[str, LayerKind] = {
    "dense": LayerKind(_dense, _WIDE),
    "gated": LayerKind(_gated, _WIDE),
    "normed": LayerKind(_normed, _WIDE),
    "identity": _IDENTITY,
}
CONV: Mapping[str, LayerKind] = {
    "conv": LayerKind(_convolution("Conv2D"), _WIDE | {"kernel"}),
    "separable": LayerKind(_convolution("SeparableConv2D"), _WIDE | {"kernel"}),
    "pool": LayerKind(_pool("MaxPooling2D"), frozenset({"skip"})),
    "identity": _IDENTITY,
}
TEXT: Mapping[str, LayerKind] = {
    "conv": LayerKind(_convolution("Conv1D"), _WIDE | {"kernel"}),
    "separable": LayerKind(_convolution("SeparableConv1D"), _WIDE | {"kernel"}),
    "attention": LayerKind(_attention, _WIDE | {"heads"}),
    "recurrent": LayerKind(_recurrent, _WIDE),
    "pool": LayerKind(_pool("MaxPooling1D"), frozenset({"skip"})),
    "identity": _IDENTITY,
}


def build(kinds: Mapping[str, LayerKind], x: Any, choices: Choices, name: str) -> Any:
    """Apply the chosen layer to a tensor.

    Args:
        kinds: `DENSE`, `CONV` or `TEXT`.
        x: a Keras tensor.
        choices: of this layer.
        name: the prefix of its layers' names.

    Returns:
        A tensor of x's size; x itself where the layer isn't there.
    """
    if choices.kind is None:
        return x
    y = kinds[choices.kind].build(x, choices, choices.width or x.shape[-1], name)
    return add([x, y], y.shape[-1], name) if choices.skip else y


def add(tensors: list[Any], width: int, name: str) -> Any:
    """Add tensors of one size, after projecting those of another width.

    Args:
        tensors: of shape [..., channels]; channels may differ.
        width: the channels of the sum.
        name: the prefix of its layers' names.
    """
    if len(tensors) == 1:
        return project(tensors[0], width, f"{name}_project_0")
    projected = [project(x, width, f"{name}_project_{i}") for i, x in enumerate(tensors)]
    return keras.layers.Add(name=f"{name}_add")(projected)


def project(x: Any, width: int, name: str) -> Any:
    """Return the tensor if it has `width` channels, else a linear projection of it."""
    return x if x.shape[-1] == width else keras.layers.Dense(width, use_bias=False, name=name)(x)


def halve(x: Any, name: str) -> Any:
    """Halve the height and width of [batch, height, width, channels], not below one."""
    size = tuple(min(2, side or 2) for side in x.shape[1:3])
    return x if size == (1, 1) else keras.layers.MaxPooling2D(size, name=f"{name}_halve")(x)


def choose(table: Mapping[str, Any], kinds: Sequence[str], name: str) -> dict[str, Any]:
    """Return the part of a table with these kinds.

    Raises:
        SearchError: when a kind is unknown, or none is given.
    """
    if not kinds or any(kind not in table for kind in kinds):
        raise SearchError(
            f"{name!r} got the kinds {list(kinds)}, expected one or more of {list(table)}."
        )
    return {kind: table[kind] for kind in kinds}


def check(x: Any, axes: str, what: str) -> None:
    """Refuse a tensor of another rank.

    Args:
        x: a Keras tensor.
        axes: names of the axes, separated by blanks.
        what: the name of the block, for the message.

    Raises:
        SearchError: with the received shape and the expected axes.
    """
    if len(x.shape) != len(axes.split()):
        raise SearchError(
            f"{what} got a tensor of shape {tuple(x.shape)}, expected [{axes.replace(' ', ', ')}]. "
            "Reshape it first."
        )
