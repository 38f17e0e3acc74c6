"""The layers of a model: which follow its precision, where they are made, and their calls."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

import keras

from keras_candle.keras_private.models import input_operations, is_frame_of_operation, layers_inside

FLOAT32, FLOAT16, BFLOAT16 = PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")

# The kinds of a layer's dtype argument.
_NOTHING, _NAME, _POLICY = "nothing", "name", "policy"


@dataclass(frozen=True)
class LayerOrigin:
    """The origin of a layer.

    Attributes:
        given: the kind of its dtype argument.
        by_keras: whether a layer of Keras made it, for itself.
        line: the script's file and line that made it; None where it was not the script.
    """

    given: str
    by_keras: bool
    line: tuple[str, int] | None


@dataclass(frozen=True)
class Part:
    """A layer at its place in a model, or an operation of a functional model.

    Attributes:
        layer: the layer.
        name: the names of the layers around it and its own, joined by "/".
        parent: the part around it.
        follows: whether the global dtype policy at the time when the model is made determines its
            precision. Otherwise it has a dtype of its own, and keeps it.
        by_keras: whether a layer of Keras made it, for itself.
        line: the script's file and line that made it.
    """

    layer: Any
    name: str
    parent: Part | None = None
    follows: bool = False
    by_keras: bool = False
    line: tuple[str, int] | None = None

    @property
    def kind(self) -> str:
        """The name of the layer's class."""
        return type(self.layer).__name__

    @property
    def is_layer(self) -> bool:
        """Whether it is a layer, and not an operation."""
        return isinstance(self.layer, keras.Layer)

    @property
    def inside_keras_layer(self) -> bool:
        """Whether it belongs to a layer of Keras, and shares that layer's dtype."""
        return self.by_keras and self.parent is not None and not _is_model(self.parent.layer)


def watch_layers(keras_module: ModuleType, is_own: Callable[[str], bool]) -> None:
    """Record the origin of each layer made from now on; for a process that exists for one audit.

    Args:
        keras_module: Keras, imported by the script.
        is_own: returns whether a file is the script's.
    """
    plain = keras_module.Layer.__init__

    @functools.wraps(plain)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        # Bypasses Keras's tracking of attributes.
        object.__setattr__(self, "_candle_made", _origin_of(self, kwargs.get("dtype"), is_own))

    # Keras reads the signature where a layer has no __init__ of its own.
    init.__signature__ = inspect.signature(plain)  # type: ignore[attr-defined]
    keras_module.Layer.__init__ = init


def _origin_of(layer: Any, dtype: Any, is_own: Callable[[str], bool]) -> LayerOrigin:
    given = _NAME
    if dtype is None or dtype is keras.config.dtype_policy():
        given = _NOTHING
    elif isinstance(dtype, keras.DTypePolicy | dict):
        given = _POLICY
    makers = [frame for frame in _frames() if not _belongs_to(frame, layer)]
    module = makers[0].f_globals.get("__name__", "") if makers else ""
    own = next((frame for frame in makers if is_own(frame.f_code.co_filename)), None)
    line = None if own is None else (own.f_code.co_filename, own.f_lineno)
    return LayerOrigin(given, module.startswith("keras."), line)


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _belongs_to(frame: FrameType, layer: Any) -> bool:
    """Whether the frame is part of making the layer itself, such as its class's own __init__."""
    code = frame.f_code
    is_method = code.co_argcount > 0 and frame.f_locals.get(code.co_varnames[0]) is layer
    return is_method or is_frame_of_operation(frame)


def parts_of(model: Any) -> list[Part]:
    """Return a model and all layers in it as parts, each once.

    Args:
        model: a built Keras model.

    Returns:
        The model first, then the layers, depth first.
    """
    parts: list[Part] = []
    _add(parts, set(), model, None)
    return parts


def _add(parts: list[Part], seen: set[int], layer: Any, parent: Part | None) -> None:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    part = part_of(layer, parent)
    parts.append(part)
    for child in layers_inside(layer, recursive=False):
        _add(parts, seen, child, part)


def part_of(layer: Any, parent: Part | None) -> Part:
    """Return the part for a layer or an operation.

    Args:
        layer: the layer or operation.
        parent: the part around it, None for the model itself.
    """
    inside = parent is not None and parent.parent is not None
    name = f"{parent.name}/{layer.name}" if parent is not None and inside else layer.name
    if not isinstance(layer, keras.Layer):
        return Part(layer, name, parent)
    made: LayerOrigin | None = getattr(layer, "_candle_made", None)
    line = None if made is None else made.line
    follows = _follows(layer, made, parent)
    if made is not None:
        return Part(layer, name, parent, follows, made.by_keras, line)
    of_keras = inside and parent is not None and type(parent.layer).__module__.startswith("keras.")
    return Part(layer, name, parent, follows, of_keras)


def _follows(layer: Any, made: LayerOrigin | None, parent: Part | None) -> bool:
    policy = layer.dtype_policy
    if isinstance(layer, keras.layers.InputLayer) or policy.name not in PRECISIONS:
        return False
    if made is None:
        return policy is keras.config.dtype_policy()
    if made.given != _POLICY:
        return made.given == _NOTHING
    # A layer that passes its own policy on, such as Bidirectional: the parent's argument counts.
    # A model's layers with a policy object were loaded with it.
    if parent is None or _is_model(parent.layer) or parent.layer.dtype_policy.name != policy.name:
        return False
    return parent.follows


def _is_model(layer: Any) -> bool:
    return isinstance(layer, keras.Model)


class CallRecorder:
    """Base class: follows each call of a layer or of a functional model's operation.

    Args:
        parts: the parts of the model.

    Attributes:
        stack: the parts whose calls have begun and not ended, the innermost last.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = {id(part.layer): part for part in parts}
        self.stack: list[Part] = []

    def call(self, plain: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
        """Call a layer, and pass its inputs to `begin` and its outputs to `end`."""
        part = self._part(layer)
        self.begin(part, (args, kwargs))
        self.stack.append(part)
        try:
            outputs = plain(layer, *args, **kwargs)
        finally:
            self.stack.pop()
        self.end(part, outputs)
        return outputs

    def begin(self, part: Part, inputs: Any) -> None:
        """Handle the inputs of a call, before it."""

    def end(self, part: Part, outputs: Any) -> None:
        """Handle the outputs of a call that did not raise."""

    def _part(self, layer: Any) -> Part:
        if id(layer) not in self._parts:
            parent = next((part for part in reversed(self.stack) if part.is_layer), None)
            self._parts[id(layer)] = part_of(layer, parent)
        return self._parts[id(layer)]


@contextmanager
def recorded_by(recorder: CallRecorder) -> Iterator[None]:
    """Pass all calls of layers in this process to a recorder."""
    layer_call, operation_call = keras.Layer.__call__, keras.Operation.__call__

    @functools.wraps(layer_call)
    def call_layer(self: Any, *args: Any, **kwargs: Any) -> Any:
        return recorder.call(layer_call, self, args, kwargs)

    @functools.wraps(operation_call)
    def call_operation(self: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, keras.Layer):  # called by Layer.__call__
            return operation_call(self, *args, **kwargs)
        return recorder.call(operation_call, self, args, kwargs)

    keras.Layer.__call__, keras.Operation.__call__ = call_layer, call_operation
    try:
        yield
    finally:
        keras.Layer.__call__, keras.Operation.__call__ = layer_call, operation_call


def operations_before(operation: Any) -> list[Any]:
    """Return the layers whose outputs an operation of a functional model uses."""
    found = []
    for source in input_operations(operation):
        found += [source] if isinstance(source, keras.Layer) else operations_before(source)
    return found
