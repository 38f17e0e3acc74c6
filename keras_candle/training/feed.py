"""What `fit` and `evaluate` get in the place of the user's data, agreed by all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError, DataError
from keras_candle.training.data import ArrayShard, fingerprint
from keras_candle.training.dataset import DatasetShard, describe_dataset, is_sharded_by_user
from keras_candle.training.keras_names import ArrayDataAdapter, DataAdapter, get_data_adapter
from keras_candle.training.options import Options
from keras_candle.training.step import Share, largest_row


@dataclass(frozen=True)
class Source:
    """The user's data as she gave it to `fit` or `evaluate`; the fields are their arguments.

    Attributes:
        steps: steps_per_epoch, or `evaluate`'s steps.
        for_training: False for evaluation, which may stop at any row and needs no equal batches.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    class_weight: Any = None
    batch_size: int | None = None
    shuffle: bool | str = False
    steps: int | None = None
    for_training: bool = False


@dataclass(frozen=True)
class Feed:
    """A rank's data for `fit` or `evaluate`.

    Attributes:
        adapter: what Keras gets as x: a DataAdapter, with everything that belongs to it.
        steps: what Keras gets as its number of steps, None for all.
        steps_per_epoch: the same number of steps on all ranks; None when nobody knows.
        may_be_empty: whether a rank can be without rows in a step.
        for_training: False for evaluation.
    """

    adapter: Any
    steps: int | None
    steps_per_epoch: int | None
    may_be_empty: bool
    for_training: bool

    @property
    def rows_expected(self) -> int:
        """About how many rows the rank has in one step."""
        return int(self.adapter.batch_size or 32)

    def spec(self) -> Any:
        """Tensor specs of a batch as the model sees it."""
        spec = self.adapter.get_tf_dataset().element_spec
        return spec.data if isinstance(spec, Share) else spec

    def lookups_expected(self) -> int:
        """At most how many embedding rows the rank's batch looks up."""
        return self.rows_expected * largest_row(self.spec())


def make_feed(source: Source, options: Options, engine: Engine) -> Feed:
    """Divide the data among the ranks and agree on the number of steps.

    Raises:
        DataError: on every rank, before the first step: no rows, a kind of data that can't be
            divided, data or numbers of steps that differ by rank, a batch size that the number
            of ranks does not divide.
    """
    if isinstance(source.x, DataAdapter):
        return _feed(source.x, source.steps, source)
    by_user = not options.shard or (_is_dataset(source.x) and is_sharded_by_user(source.x))
    describe = _describe_own_part if by_user else _describe_whole
    facts = _together(lambda: describe(source, options, engine), engine)
    engine.agree(
        "the number of batches" if by_user else "the data they were given", facts, DataError
    )
    if by_user:
        return _own_part(source, options, engine)
    if _is_dataset(source.x):
        return _divided_dataset(source, options, engine)
    return _divided_arrays(source, options, engine)


def _is_dataset(x: Any) -> bool:
    import tensorflow as tf

    return isinstance(x, tf.data.Dataset)


def _together(describe: Callable[[], list[str]], engine: Engine) -> list[str]:
    """Call something that can fail on some ranks; if it does, all of them raise."""
    problem: Exception | None = None
    facts: list[str] = []
    try:
        facts = describe()
    except (CandleError, ValueError, TypeError) as caught:
        problem = caught
    problems = engine.gather_objects(None if problem is None else str(problem))
    if not any(problems):
        return facts
    if len(set(problems)) == 1:
        raise DataError(problems[0]) from problem
    listed = "\n".join(
        f"  rank {rank}: {each or 'no problem'}" for rank, each in enumerate(problems)
    )
    raise DataError(f"Some ranks can't use their data:\n{listed}") from problem


def _describe_whole(source: Source, options: Options, engine: Engine) -> list[str]:
    settings = f"steps {source.steps}, batch size {source.batch_size}, shuffle {source.shuffle}"
    if _is_dataset(source.x):
        facts = describe_dataset(source.x)
        if int(source.x.cardinality()) == 0:
            raise DataError("The tf.data.Dataset has no batch; expected at least one.")
        return [settings, *facts]
    inputs = _stock_arrays(source)._inputs
    if int(keras.tree.flatten(inputs)[0].shape[0]) == 0:
        raise DataError("The data have no row; expected at least one.")
    batch_size = _stock_arrays(source).batch_size
    if source.for_training and options.batch == "global" and batch_size % engine.size:
        raise DataError(
            f"batch='global' divides each batch among the ranks, but batch_size={batch_size} "
            f"cannot be divided by {engine.size} ranks. Give fit a batch_size that is a multiple "
            f"of {engine.size}, or use batch='replica'."
        )
    return [settings, *fingerprint(inputs)]


def _describe_own_part(source: Source, options: Options, engine: Engine) -> list[str]:
    adapter = _stock_adapter(source, options, engine)
    batches = source.steps or adapter.num_batches
    if batches is None and source.for_training:
        raise DataError(
            "Each rank passes its own data, and how many batches they are is unknown: "
            "give fit the argument steps_per_epoch, the same on all ranks."
        )
    if batches == 0:
        raise DataError("The data have no row; expected at least one.")
    return [f"{batches} batches"] if source.for_training else []


def _stock_arrays(source: Source) -> Any:
    kind = type(source.x)
    try:
        return ArrayDataAdapter(
            source.x,
            source.y,
            sample_weight=source.sample_weight,
            class_weight=source.class_weight,
            batch_size=source.batch_size,
            steps=source.steps,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as cause:
        if keras.tree.is_nested(source.x) or hasattr(source.x, "shape"):
            raise
        raise DataError(
            f"fit and evaluate divide arrays and tf.data.Datasets among the ranks, but got "
            f"{kind.__module__}.{kind.__qualname__}. Convert it, or let each rank make its own "
            "part (candle.rank(), candle.size()) and say @candle.scalable(shard=False)."
        ) from cause


def _stock_adapter(source: Source, options: Options, engine: Engine) -> Any:
    batch_size = source.batch_size
    if options.batch != "replica" and batch_size:
        batch_size = max(batch_size // engine.size, 1)
    return get_data_adapter(
        x=source.x,
        y=source.y,
        sample_weight=source.sample_weight,
        batch_size=batch_size,
        steps_per_epoch=source.steps,
        shuffle=source.shuffle and not _is_dataset(source.x),
        class_weight=source.class_weight,
    )


def _own_part(source: Source, options: Options, engine: Engine) -> Feed:
    adapter = _stock_adapter(source, options, engine)
    return _feed(adapter, source.steps, source)


def _divided_arrays(source: Source, options: Options, engine: Engine) -> Feed:
    stock = _stock_arrays(source)
    global_batch_size = stock.batch_size * options.batch_growth(engine.size)
    limit = None
    if source.steps and not source.for_training:
        limit = source.steps * stock.batch_size
    adapter = ArrayShard(stock._inputs, global_batch_size, source.shuffle, engine, limit)
    return _feed(adapter, _fewer(source, options, engine), source)


def _divided_dataset(source: Source, options: Options, engine: Engine) -> Feed:
    limit = None if source.for_training else source.steps
    adapter = DatasetShard(source.x, options.batch, engine, source.class_weight, limit)
    return _feed(adapter, _fewer(source, options, engine), source)


def _fewer(source: Source, options: Options, engine: Engine) -> int | None:
    """A number of steps of one rank, divided among the ranks."""
    if not source.steps or not source.for_training:
        return None
    return math.ceil(source.steps / options.batch_growth(engine.size))


def _feed(adapter: Any, steps: int | None, source: Source) -> Feed:
    may_be_empty = getattr(adapter, "may_be_empty", False)
    return Feed(adapter, steps, steps or adapter.num_batches, may_be_empty, source.for_training)
