"""Constants of layers that 16 bits cannot hold: -1e9 becomes -inf, an epsilon of 1e-8 becomes 0.

Looked for in the graph that TensorFlow makes of a step: what stands in a layer's code or
configuration counts where it meets 16 bits, and only there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_candle.precision_audit.calls import CallRecorder, seen_by
from keras_candle.precision_audit.layers import FLOAT16, FLOAT32, Part
from keras_candle.precision_audit.step import Bench, applied_by
from keras_candle.precision_audit.switching import switched
from keras_candle.precision_audit.values import FORMATS

# Half of float16's smallest subnormal number: rounded to an even last digit, that is 0.
_VANISHES = 2.0**-25
_LARGEST = FORMATS["float16"].largest
# Larger arrays are data, and not constants that somebody wrote.
_MOST_VALUES = 1 << 20


@dataclass(frozen=True)
class Constant:
    """A constant that float16 cannot hold.

    Attributes:
        part: in whose code it stands.
        value: as written.
    """

    part: Part
    value: float

    @property
    def becomes(self) -> str:
        """What it is in float16."""
        return "0" if abs(self.value) <= _VANISHES else f"{np.copysign(np.inf, self.value):g}"


@dataclass(frozen=True)
class _Node:
    """A constant of the graph, and what takes it."""

    part: Part
    values: np.ndarray[Any, Any]
    takers: frozenset[str]

    def extremes(self) -> list[float]:
        """Those of its values that float16 cannot hold, each once."""
        size = np.abs(self.values)
        with np.errstate(invalid="ignore"):
            lost = np.isfinite(size) & ((size > _LARGEST) | ((size > 0) & (size <= _VANISHES)))
        return sorted({float(value) for value in self.values[lost]})


class ConstantSearch:
    """Finds the constants of a model's layers that meet float16 and do not fit.

    Args:
        bench: the model.

    Raises:
        Exception: what the step in float32 raises as it is traced.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench, self._exact = bench, _nodes(bench, FLOAT32, ())

    def found(self, pins: Collection[str] = ()) -> list[Constant]:
        """Those that there are when the parts of these names work in float32.

        Args:
            pins: names of parts.

        Returns:
            Each value of a part once. Nothing of what stands outside of all layers: losses and
            metrics work in float32.

        Raises:
            Exception: what the step raises as it is traced.
        """
        found: dict[tuple[str, float], Constant] = {}
        for node in _nodes(self._bench, FLOAT16, pins):
            values = [] if node.values.dtype == np.float32 else _written_as(node, self._exact)
            if node.values.dtype == np.float32 and "Cast to half" in node.takers:
                values = node.extremes()
            for value in values:
                found.setdefault((node.part.name, value), Constant(node.part, value))
        return list(found.values())


def _written_as(node: _Node, exact: Sequence[_Node]) -> list[float]:
    """What a constant in float16 is in the graph in float32, where it does not fit."""
    there = set(np.abs(node.values[~(np.abs(node.values) <= _LARGEST) | (node.values == 0)]))
    if not there:
        return []
    return [
        value
        for other in exact
        if other.part.name == node.part.name and other.takers & node.takers
        for value in other.extremes()
        if (np.inf if abs(value) > _LARGEST else 0.0) in there
    ]


class _GraphWatch(CallRecorder):
    """Takes note of which operations of which graph each call makes."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(parts)
        # (graph, part, its first operation), and what comes after its last one
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

    watch = _GraphWatch(bench.parts)
    with ExitStack() as around:
        around.enter_context(switched(bench.parts, precision, pins))
        around.enter_context(applied_by(lambda *_: None))
        around.enter_context(seen_by(watch))
        # As Keras traces it: without AutoGraph.
        step = tf.function(bench.model.train_step, autograph=False)
        step.get_concrete_function(bench.batch)
    graphs = {id(call[0]): call[0] for call in watch.calls}
    found = []
    for graph in graphs.values():
        operations = graph.get_operations()
        owners: list[Part | None] = [None] * len(operations)
        for other, part, first, last in watch.calls:  # an outer call comes before its inner ones
            if other is graph:
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
    takers = {
        "Cast to half" if each.type == "Cast" and each.outputs[0].dtype == "float16" else each.type
        for each in output.consumers()
    }
    values = np.atleast_1d(tf.make_ndarray(operation.get_attr("value")))
    return [_Node(part, values, frozenset(takers))]
