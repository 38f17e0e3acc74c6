"""Blocks: single layers with a searched kind, width, kernel, heads and skip connection."""

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
    """Add a dense layer with a searched kind, width and skip connection.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, ..., channels].
        name: the prefix of its hyperparameters' and layers' names; unique in a model.
        kinds: the kinds of `layers.DENSE` to choose among.
        widths: the numbers of units to choose among.

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
    """Add a convolution over images with a searched kind, width, kernel and skip connection.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, height, width, channels].
        name: the prefix of its hyperparameters' and layers' names; unique in a model.
        kinds: the kinds of `layers.CONV` to choose among.
        widths: the numbers of filters to choose among.
        kernels: the sizes to choose among.

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
    """Add a layer over a sequence: a searched convolution, attention or recurrence.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, time, channels], for example of an Embedding.
        name: the prefix of its hyperparameters' and layers' names; unique in a model.
        kinds: the kinds of `layers.TEXT` to choose among.
        widths: the numbers of channels to choose among.
        kernels: the convolutions' sizes to choose among.
        heads: the numbers of attention heads to choose among.

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
    """Add a transformer block: attention, then two dense layers, each with a skip connection.

    Args:
        hp: keras_tuner.HyperParameters.
        x: tensor [batch, time, channels].
        name: the prefix of its hyperparameters' and layers' names; unique in a model.
        heads: the numbers of heads to choose among.
        widths: the numbers of channels to choose among.
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
    """Register and read one layer's hyperparameters, also those of kinds that weren't chosen.

    Args:
        hp: keras_tuner.HyperParameters.
        name: the prefix of the hyperparameters' names.
        table: the kinds to choose among.
        values: the choices of width, kernel and heads; one that is left out isn't searched.
        skip: whether to search a skip connection.

    Returns:
        The choices.
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
    """Return the prefix of layers' names: Keras allows no slash in them."""
    return name.replace("/", "_")
