"""Single layers as hyperparameters: a kind, its width, kernel or heads, and a skip connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from keras_candle.search.nas import layers
from keras_candle.search.nas.layers import Choices, LayerKind

IMAGE, SEQUENCE = "batch height width channels", "batch time channels"


def dense_block(
    hp: Any,
    x: Any,
    name: str,
    *,
    kinds: Sequence[str] = ("dense", "gated", "normed"),
    widths: Sequence[int] = (16, 32, 64, 128),
) -> Any:
    """A dense layer of a searched kind and width, with or without a skip connection.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, ..., channels].
        name: stands before the names of its hyperparameters and layers; unique in a model.
        kinds: which of `layers.DENSE` are chosen among.
        widths: the numbers of units that are chosen among.

    Returns:
        A tensor [batch, ..., width].

    Raises:
        SearchError: when a kind is unknown.
    """
    table = layers.choose(layers.DENSE, kinds, name)
    return _block(hp, x, name, table, {"width": widths})


def conv_block(
    hp: Any,
    x: Any,
    name: str,
    *,
    kinds: Sequence[str] = ("conv", "separable", "pool"),
    widths: Sequence[int] = (16, 32, 64),
    kernels: Sequence[int] = (3, 5),
) -> Any:
    """A convolution over images: kind, width, kernel, skip connection.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, height, width, channels].
        name: stands before the names of its hyperparameters and layers; unique in a model.
        kinds: which of `layers.CONV` are chosen among.
        widths: the numbers of filters that are chosen among.
        kernels: the sizes that are chosen among.

    Returns:
        A tensor [batch, height, width, filters].

    Raises:
        SearchError: when a kind is unknown, or x has another rank.
    """
    layers.check(x, IMAGE, f"conv_block {name!r}")
    table = layers.choose(layers.CONV, kinds, name)
    return _block(hp, x, name, table, {"width": widths, "kernel": kernels})


def text_block(
    hp: Any,
    x: Any,
    name: str,
    *,
    kinds: Sequence[str] = ("conv", "separable", "attention", "recurrent"),
    widths: Sequence[int] = (16, 32, 64),
    kernels: Sequence[int] = (3, 5, 7),
    heads: Sequence[int] = (1, 2, 4),
) -> Any:
    """A layer over a sequence: convolution, attention or recurrence.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, time, channels], for example of an Embedding.
        name: stands before the names of its hyperparameters and layers; unique in a model.
        kinds: which of `layers.TEXT` are chosen among.
        widths: the numbers of channels that are chosen among.
        kernels: the convolutions' sizes that are chosen among.
        heads: the numbers of attention heads that are chosen among.

    Returns:
        A tensor [batch, time, width].

    Raises:
        SearchError: when a kind is unknown, or x has another rank.
    """
    layers.check(x, SEQUENCE, f"text_block {name!r}")
    values = {"width": widths, "kernel": kernels, "heads": heads}
    table = layers.choose(layers.TEXT, kinds, name)
    return _block(hp, x, name, table, values)


def attention_block(
    hp: Any,
    x: Any,
    name: str,
    *,
    heads: Sequence[int] = (1, 2, 4),
    widths: Sequence[int] = (16, 32, 64),
    feed_forward: Sequence[int] = (1, 2, 4),
) -> Any:
    """A block of a transformer: attention with a skip connection, then two dense layers with one.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, time, channels].
        name: stands before the names of its hyperparameters and layers; unique in a model.
        heads: the numbers of heads that are chosen among.
        widths: the numbers of channels that are chosen among.
        feed_forward: how many times wider the inner dense layer may be.

    Returns:
        A tensor [batch, time, width].

    Raises:
        SearchError: when x has another rank.
    """
    import keras

    layers.check(x, SEQUENCE, f"attention_block {name!r}")
    width = hp.Choice(f"{name}/width", list(widths))
    count = hp.Choice(f"{name}/heads", list(heads))
    times = hp.Choice(f"{name}/feed_forward", list(feed_forward))
    if width is None:
        return x
    prefix = layer_name(name)
    x = layers.build(layers.TEXT, x, Choices("attention", width, heads=count, skip=True), prefix)
    inner = keras.layers.LayerNormalization(name=f"{prefix}_inner_norm")(x)
    inner = keras.layers.Dense(width * times, "gelu", name=f"{prefix}_inner")(inner)
    inner = keras.layers.Dense(width, name=f"{prefix}_outer")(inner)
    return layers.add([x, inner], width, f"{prefix}_outer")


def _block(
    hp: Any,
    x: Any,
    name: str,
    table: Mapping[str, LayerKind],
    values: Mapping[str, Sequence[int]],
) -> Any:
    return layers.build(table, x, read(hp, name, table, values), layer_name(name))


def read(
    hp: Any,
    name: str,
    table: Mapping[str, LayerKind],
    values: Mapping[str, Sequence[int]],
    skip: bool = True,
) -> Choices:
    """Read one layer's decisions; all are registered, also those of kinds that weren't chosen.

    Args:
        hp: keras_tuner.HyperParameters.
        name: stands before the decisions' names.
        table: the kinds to choose among.
        values: what width, kernel and heads are chosen among; a decision left out isn't searched.
        skip: whether a skip connection is searched.

    Returns:
        What was chosen.
    """
    kind = hp.Choice(f"{name}/kind", list(table))
    chosen: dict[str, Any] = {}
    for decision in (*values, "skip") if skip else values:
        having = [one for one, each in table.items() if decision in each.decisions]
        if not having:
            continue
        # A condition that always holds would only make the space harder to read.
        always = len(having) == len(table)
        with nullcontext() if always else hp.conditional_scope(f"{name}/kind", having):
            if decision == "skip":
                chosen[decision] = hp.Boolean(f"{name}/skip")
            else:
                chosen[decision] = hp.Choice(f"{name}/{decision}", list(values[decision]))
    return Choices(kind, **chosen)


def layer_name(name: str) -> str:
    """The start of layers' names, in which Keras allows no slash."""
    return name.replace("/", "_")
