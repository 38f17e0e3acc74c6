"""Every call of a layer passes by a watch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from keras_candle.keras_private.models import input_operations
from keras_candle.precision_audit.layers import Part, part_of


class CallRecorder:
    """Sees each call of a layer or of a functional model's operation; does nothing with it.

    Args:
        parts: of the model.

    Attributes:
        stack: the parts whose calls have begun and not ended, the innermost last.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = {id(part.layer): part for part in parts}
        self.stack: list[Part] = []

    def call(self, plain: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
        """Call a layer, and see what goes in and comes out."""
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
        """Before a call."""

    def end(self, part: Part, outputs: Any) -> None:
        """After a call that raised nothing."""

    def _part(self, layer: Any) -> Part:
        if id(layer) not in self._parts:
            parent = next((part for part in reversed(self.stack) if part.is_layer), None)
            self._parts[id(layer)] = part_of(layer, parent)
        return self._parts[id(layer)]


@contextmanager
def seen_by(watch: CallRecorder) -> Iterator[None]:
    """Let all calls of layers pass by a watch, in this process."""
    layer_call, operation_call = keras.Layer.__call__, keras.Operation.__call__

    @functools.wraps(layer_call)
    def call_layer(self: Any, *args: Any, **kwargs: Any) -> Any:
        return watch.call(layer_call, self, args, kwargs)

    @functools.wraps(operation_call)
    def call_operation(self: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, keras.Layer):  # on its way through Layer.__call__
            return operation_call(self, *args, **kwargs)
        return watch.call(operation_call, self, args, kwargs)

    keras.Layer.__call__, keras.Operation.__call__ = call_layer, call_operation
    try:
        yield
    finally:
        keras.Layer.__call__, keras.Operation.__call__ = layer_call, operation_call


def operations_before(operation: Any) -> list[Any]:
    """The layers whose outputs an operation of a functional model takes."""
    found = []
    for source in input_operations(operation):
        found += [source] if isinstance(source, keras.Layer) else operations_before(source)
    return found
