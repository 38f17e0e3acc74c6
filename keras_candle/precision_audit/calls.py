"""Record every call of a layer or operation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from keras_candle.keras_private.models import input_operations
from keras_candle.precision_audit.layers import Part, part_of


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
