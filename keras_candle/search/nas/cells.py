"""Stacks of blocks with a searched depth, cells that are searched graphs of layers, and pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import keras

from keras_candle.search.nas import blocks, layers
from keras_candle.search.nas.layers import Choices, LayerKind


def stack(
    hp: Any,
    x: Any,
    name: str,
    block: Callable[..., Any] = blocks.dense_block,
    depth: tuple[int, int] = (1, 3),
    **options: Any,
) -> Any:
    """Stack a searched number of blocks.

    The hyperparameters of a block that isn't there are not part of the trial.

    Args:
        hp: keras_tuner.HyperParameters.
        x: the input tensor of the first block.
        name: the prefix of the names of all hyperparameters and layers; unique in a model.
        block: dense_block, conv_block, text_block, attention_block, or a function like them.
        depth: the least and the greatest number of blocks; the least may be 0.
        options: further arguments of the block.

    Returns:
        The last block's tensor.
    """
    least, greatest = depth
    hp.Int(f"{name}/depth", least, greatest)
    for number in range(greatest):
        deeper = list(range(max(number + 1, least), greatest + 1))
        always = number < least
        with nullcontext() if always else hp.conditional_scope(f"{name}/depth", deeper):
            x = block(hp, x, f"{name}/{number}", **options)
    return x


def dense_cell(
    hp: Any,
    x: Any,
    name: str,
    *,
    nodes: int = 3,
    kinds: Sequence[str] = ("dense", "gated", "normed", "identity"),
    widths: Sequence[int] = (16, 32, 64, 128),
) -> Any:
    """Add a graph of dense layers with searched kinds and connections.

    Each node reads the cell's input or an earlier node and adds a skip connection to another one,
    or none. The cell's output is the sum of the nodes that no node reads.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, ..., channels].
        name: the prefix of its hyperparameters' and layers' names; unique in a model.
        nodes: the number of layers.
        kinds: the kinds of `layers.DENSE` to choose among.
        widths: the numbers of units to choose among, one for the whole cell.

    Returns:
        A tensor [batch, ..., width].

    Raises:
        SearchError: when a kind is unknown.
    """
    table = layers.choose(layers.DENSE, kinds, name)
    return cell(hp, x, name, table, nodes, {"width": widths})


def conv_cell(  # noqa: PLR0913 - the choices
    hp: Any,
    x: Any,
    name: str,
    *,
    nodes: int = 3,
    kinds: Sequence[str] = ("conv", "separable", "pool", "identity"),
    widths: Sequence[int] = (16, 32, 64),
    kernels: Sequence[int] = (3, 5),
    repeats: int = 1,
) -> Any:
    """Add a searched graph of convolutions, as in NAS-Bench-201 and NASNet.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, height, width, channels].
        name: the prefix of its hyperparameters' and layers' names; unique in a model.
        nodes: the number of layers.
        kinds: the kinds of `layers.CONV` to choose among.
        widths: the numbers of filters to choose among, one for the whole cell.
        kernels: the sizes to choose among.
        repeats: how often the cell is repeated, with separate weights; between two of them
            height and width are halved and the number of filters is doubled.

    Returns:
        A tensor [batch, height, width, filters].

    Raises:
        SearchError: when a kind is unknown, or x has another rank.
    """
    layers.check(x, blocks.IMAGE, f"conv_cell {name!r}")
    values = {"width": widths, "kernel": kernels}
    table = layers.choose(layers.CONV, kinds, name)
    return cell(hp, x, name, table, nodes, values, repeats)


def text_cell(  # noqa: PLR0913 - the choices
    hp: Any,
    x: Any,
    name: str,
    *,
    nodes: int = 3,
    kinds: Sequence[str] = ("conv", "separable", "attention", "pool", "identity"),
    widths: Sequence[int] = (16, 32, 64),
    kernels: Sequence[int] = (3, 5, 7),
    heads: Sequence[int] = (1, 2, 4),
) -> Any:
    """Add a graph of convolutions and attentions over a sequence.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, time, channels].
        name: the prefix of its hyperparameters' and layers' names; unique in a model.
        nodes: the number of layers.
        kinds: the kinds of `layers.TEXT` to choose among.
        widths: the numbers of channels to choose among, one for the whole cell.
        kernels: the convolutions' sizes to choose among.
        heads: the numbers of attention heads to choose among.

    Returns:
        A tensor [batch, time, width].

    Raises:
        SearchError: when a kind is unknown, or x has another rank.
    """
    layers.check(x, blocks.SEQUENCE, f"text_cell {name!r}")
    values = {"width": widths, "kernel": kernels, "heads": heads}
    table = layers.choose(layers.TEXT, kinds, name)
    return cell(hp, x, name, table, nodes, values)


def text_cnn(
    hp: Any,
    x: Any,
    name: str,
    *,
    smallest: tuple[int, int] = (2, 4),
    branches: tuple[int, int] = (1, 4),
    widths: Sequence[int] = (16, 32, 64),
) -> Any:
    """Add parallel convolutions of several sizes, each with global max pooling.

    Kim, Convolutional Neural Networks for Sentence Classification (2014).

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, time, channels].
        name: the prefix of its hyperparameters' and layers' names; unique in a model.
        smallest: the least and the greatest size of the first convolution; each further one is
            larger by one.
        branches: the least and the greatest number of convolutions.
        widths: the numbers of filters of each to choose among.

    Returns:
        A tensor [batch, branches * width].

    Raises:
        SearchError: when x has another rank.
    """
    layers.check(x, blocks.SEQUENCE, f"text_cnn {name!r}")
    first = hp.Int(f"{name}/smallest", *smallest)
    count = hp.Int(f"{name}/branches", *branches)
    width = hp.Choice(f"{name}/width", list(widths))
    if width is None:
        return x
    prefix, found = blocks.layer_name(name), []
    for kernel in range(first, first + count):
        conv = keras.layers.Conv1D(width, kernel, padding="same", activation="relu",
                                   name=f"{prefix}_conv_{kernel}")  # fmt: skip
        found.append(keras.layers.GlobalMaxPooling1D(name=f"{prefix}_max_{kernel}")(conv(x)))
    return keras.layers.Concatenate(name=f"{prefix}_all")(found) if count > 1 else found[0]


def pooling(
    hp: Any, x: Any, name: str, kinds: Sequence[str] = ("average", "max", "flatten")
) -> Any:
    """Reduce images or sequences to one vector with a searched pooling.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, height, width, channels] or [batch, time, channels].
        name: the prefix of its hyperparameters' and layers' names; unique in a model.
        kinds: of "average", "max" and "flatten", those to choose among.

    Returns:
        A tensor [batch, features]; x itself when it is one already.
    """
    if len(x.shape) == 2:
        return x
    dimensions = len(x.shape) - 2
    made = {
        "average": f"GlobalAveragePooling{dimensions}D",
        "max": f"GlobalMaxPooling{dimensions}D",
        "flatten": "Flatten",
    }
    kind = hp.Choice(f"{name}/pooling", list(layers.choose(made, kinds, name)))
    if kind is None:
        return x
    return getattr(keras.layers, made[kind])(name=f"{blocks.layer_name(name)}_{kind}")(x)


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
