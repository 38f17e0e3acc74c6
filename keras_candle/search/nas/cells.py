"""Layers put together as hyperparameters: stacks of searched depth, and cells that are graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import keras

from keras_candle.search.nas import blocks, layers
from keras_candle.search.nas.graph import cell


def stack(
    hp: Any,
    x: Any,
    name: str,
    block: Callable[..., Any] = blocks.dense_block,
    depth: tuple[int, int] = (1, 3),
    **options: Any,
) -> Any:
    """Blocks one after the other, as many as the search says.

    The decisions of a block that isn't there are no part of the trial.

    Args:
        hp: keras_tuner.HyperParameters.
        x: a tensor that the block takes.
        name: stands before the names of all hyperparameters and layers; unique in a model.
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
    """A graph of dense layers: which kinds, and which reads which, is searched.

    Each node reads the cell's input or an earlier node and adds a skip connection to another one,
    or none. What no node reads is added up to the cell's output.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, ..., channels].
        name: stands before the names of its hyperparameters and layers; unique in a model.
        nodes: how many layers it has.
        kinds: which of `layers.DENSE` are chosen among.
        widths: the numbers of units that are chosen among, one for the whole cell.

    Returns:
        A tensor [batch, ..., width].

    Raises:
        SearchError: when a kind is unknown.
    """
    table = layers.choose(layers.DENSE, kinds, name)
    return cell(hp, x, name, table, nodes, {"width": widths})


def conv_cell(  # noqa: PLR0913 - what is chosen among
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
    """A graph of convolutions, as in NAS-Bench-201 and NASNet.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, height, width, channels].
        name: stands before the names of its hyperparameters and layers; unique in a model.
        nodes: how many layers it has.
        kinds: which of `layers.CONV` are chosen among.
        widths: the numbers of filters that are chosen among, one for the whole cell.
        kernels: the sizes that are chosen among.
        repeats: how often the same cell is there, with weights of its own; between two of them
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


def text_cell(  # noqa: PLR0913 - what is chosen among
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
    """A graph of convolutions and attentions over a sequence.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, time, channels].
        name: stands before the names of its hyperparameters and layers; unique in a model.
        nodes: how many layers it has.
        kinds: which of `layers.TEXT` are chosen among.
        widths: the numbers of channels that are chosen among, one for the whole cell.
        kernels: the convolutions' sizes that are chosen among.
        heads: the numbers of attention heads that are chosen among.

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
    """Convolutions of several sizes beside each other, and the greatest value of each filter.

    Kim, Convolutional Neural Networks for Sentence Classification (2014).

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, time, channels].
        name: stands before the names of its hyperparameters and layers; unique in a model.
        smallest: the least and the greatest size of the first convolution; each further one is
            larger by one.
        branches: the least and the greatest number of convolutions.
        widths: the numbers of filters of each that are chosen among.

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
        # Named by its size, so that weights are inherited from a parent with another first size.
        conv = keras.layers.Conv1D(width, kernel, padding="same", activation="relu",
                                   name=f"{prefix}_conv_{kernel}")  # fmt: skip
        found.append(keras.layers.GlobalMaxPooling1D(name=f"{prefix}_max_{kernel}")(conv(x)))
    return keras.layers.Concatenate(name=f"{prefix}_all")(found) if count > 1 else found[0]


def pooling(
    hp: Any, x: Any, name: str, kinds: Sequence[str] = ("average", "max", "flatten")
) -> Any:
    """From images or sequences to one vector.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, height, width, channels] or [batch, time, channels].
        name: stands before the names of its hyperparameter and layer; unique in a model.
        kinds: which of "average", "max" and "flatten" are chosen among.

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
