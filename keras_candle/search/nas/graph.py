"""A cell's graph: the kind of each node, the node that it reads, and the node that it adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras_candle.search.nas import blocks, layers
from keras_candle.search.nas.layers import Choices, LayerKind


def cell(
    hp: Any,
    x: Any,
    name: str,
    table: Mapping[str, LayerKind],
    nodes: int,
    values: Mapping[str, Sequence[int]],
    repeats: int = 1,
) -> Any:
    """Add a graph of layers with searched kinds and connections.

    Args:
        hp: keras_tuner.HyperParameters.
        x: the input tensor.
        name: the prefix of the names of its hyperparameters and layers.
        table: the kinds of layer to choose among.
        nodes: the number of layers.
        values: decision to the values to choose among; "width" is one for the whole cell.
        repeats: how often the graph is repeated, with separate weights and twice the width after
            each halving of height and width.

    Returns:
        The sum of the nodes that no node reads.
    """
    width = hp.Choice(f"{name}/width", list(values["width"]))
    own = {decision: each for decision, each in values.items() if decision != "width"}
    read = [_read_node(hp, f"{name}/{number}", number, table, own) for number in range(nodes)]
    for repeat in range(repeats if width is not None else 0):
        prefix = blocks.layer_name(name) + (f"_{repeat}" if repeats > 1 else "")
        if repeat:
            x, width = layers.halve(x, prefix), 2 * width
        x = _graph(x, table, read, width, prefix)
    return x


def _read_node(
    hp: Any,
    name: str,
    number: int,
    table: Mapping[str, LayerKind],
    values: Mapping[str, Sequence[int]],
) -> tuple[Choices, int, int]:
    """A node's choices, the tensor it reads (0: the cell's input), and what it adds (-1: none)."""
    choices = blocks.read(hp, name, table, values, skip=False)
    reads = hp.Choice(f"{name}/reads", list(range(number + 1)), ordered=False) if number else 0
    adds = hp.Choice(f"{name}/adds", list(range(-1, number + 1)), ordered=False)
    return choices, reads, adds


def _graph(
    x: Any,
    table: Mapping[str, LayerKind],
    read: Sequence[tuple[Choices, int, int]],
    width: int,
    prefix: str,
) -> Any:
    tensors, used = [layers.project(x, width, f"{prefix}_project")], set()
    for number, (choices, reads, adds) in enumerate(read):
        name = f"{prefix}_{number}"
        y = layers.build(table, tensors[reads], replace(choices, width=width), name)
        used |= {reads, adds}
        tensors.append(layers.add([y, tensors[adds]], width, name) if adds >= 0 else y)
    loose = [tensor for number, tensor in enumerate(tensors) if number not in used]
    return layers.add(loose, width, f"{prefix}_out")
