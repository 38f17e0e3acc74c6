"""Find constants of layers that float16 cannot hold: -1e9 becomes -inf, an epsilon 1e-8 becomes 0.

They are searched in the TensorFlow graph of a step: a constant in a layer's code or configuration
counts only where it is converted to 16 bits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_candle.precision_audit.layers import FLOAT16, FLOAT32, CallRecorder, Part, recorded_by
from keras_candle.precision_audit.outputs import FORMATS
from keras_candle.precision_audit.step import Bench
from keras_candle.precision_audit.switching import switched
from keras_candle.verification.trial_step import intercept_gradients

# Half of float16's smallest subnormal number: it rounds to an even last digit, 0.
_VANISHES = 2.0**-25
_LARGEST = FORMATS["float16"].largest
# Larger arrays are data, not constants in code.
_MOST_VALUES = 1 << 20


@dataclass(frozen=True)
class Constant:
    """A constant that float16 cannot hold.

    Attributes:
        part: the part whose code has it.
        value: as written in the code.
    """

    part: Part
    value: float

    @property
    def becomes(self) -> str:
        """Its value in float16, as text."""
        return "0" if abs(self.value) <= _VANISHES else f"{np.copysign(np.inf, self.value):g}"


@dataclass(frozen=True)
class _Node:
    """A constant of the graph, and the types of the operations that consume it."""

    part: Part
    values: np.ndarray[Any, Any]
    consumers: frozenset[str]

    def extremes(self) -> list[float]:
        """Its values that float16 cannot hold, each once."""
        size = np.abs(self.values)
        with np.errstate(invalid="ignore"):
            lost = np.isfinite(size) & ((size > _LARGEST) | ((size > 0) & (size <= _VANISHES)))
        return sorted({float(value) for value in self.values[lost]})


class ConstantSearch:
    """Finds the constants of a model's layers that overflow or vanish in float16.

    Args:
        bench: the model and a batch.

    Raises:
        Exception: any error of tracing the step in float32.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench, self._exact = bench, _nodes(bench, FLOAT32, ())

    def found(self, pins: Collection[str] = ()) -> list[Constant]:
        """Return the constants that do not fit when some parts are pinned to float32.

        Args:
            pins: names of the pinned parts.

        Returns:
            Each value of a part once. Constants outside of all layers are left out: losses and
            metrics compute in float32.

        Raises:
            Exception: any error of tracing the step.
        """
        found: dict[tuple[str, float], Constant] = {}
        for node in _nodes(self._bench, FLOAT16, pins):
            values = [] if node.values.dtype == np.float32 else _written_as(node, self._exact)
            if node.values.dtype == np.float32 and "Cast to half" in node.consumers:
                values = node.extremes()
            for value in values:
                found.setdefault((node.part.name, value), Constant(node.part, value))
        return list(found.values())


def _written_as(node: _Node, exact: Sequence[_Node]) -> list[float]:
    """The values in the float32 graph of a float16 constant that does not fit."""
    lost = set(np.abs(node.values[~(np.abs(node.values) <= _LARGEST) | (node.values == 0)]))
    if not lost:
        return []
    return [
        value
        for candidate in exact
        if candidate.part.name == node.part.name and candidate.consumers & node.consumers
        for value in candidate.extremes()
        if (np.inf if abs(value) > _LARGEST else 0.0) in lost
    ]


class _GraphRecorder(CallRecorder):
    """Records which operations of which graph each call makes."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(parts)
        # (graph, part, index of its first operation, index after its last one)
        self.calls: list[list[Any]] = []
        self._open: list[list[Any]] = []

    def begin(self, part: Part, inputs: Any) -> None:  # noqa: ARG002 - CallRecorder's signature
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
        call = [graph, part, len(graph.get_operations()), None]
        self.calls.append(call)
        self._open.append(call)

    def end(self, part: Part, outputs: Any) -> None:  # noqa: ARG002
        call = self._open.pop()
        call[3] = len(call[0].get_operations())


def _nodes(bench: Bench, precision: str, pins: Collection[str]) -> list[_Node]:
    """The constants of floating point in a step, by layer."""
    import tensorflow as tf

    recorder = _GraphRecorder(bench.parts)
    with ExitStack() as around:
        around.enter_context(switched(bench.parts, precision, pins))
        around.enter_context(intercept_gradients(lambda *_: None))
        around.enter_context(recorded_by(recorder))
        # As Keras traces it: without AutoGraph.
        step = tf.function(bench.model.train_step, autograph=False)
        step.get_concrete_function(bench.batch)
    graphs = {id(call[0]): call[0] for call in recorder.calls}
    found = []
    for graph in graphs.values():
        operations = graph.get_operations()
        owners: list[Part | None] = [None] * len(operations)
        for of_call, part, first, last in recorder.calls:  # an outer call precedes its inner ones
            if of_call is graph:
                owners[first:last] = [part] * (last - first)
        for operation, part in zip(operations, owners, strict=True):
            if part is not None and operation.type == "Const":
                found += _node(operation, part)
    return found


def _node(operation: Any, part: Part) -> list[_Node]:
    import tensorflow as tf

    output = operation.outputs[0]
    if output.dtype.name not in ("float16", "float32") or (output.shape.num_elements() or 0) > (
        _MOST_VALUES
    ):
        return []
    consumers = {
        "Cast to half" if each.type == "Cast" and each.outputs[0].dtype == "float16" else each.type
        for each in output.consumers()
    }
    values = np.atleast_1d(tf.make_ndarray(operation.get_attr("value")))
    return [_Node(part, values, frozenset(consumers))]
