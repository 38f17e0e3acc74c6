"""The sharded input that replaces the user's data in `fit` and `evaluate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_candle.data.array_shard import ArrayShard
from keras_candle.data.data_cursor import DataCursor
from keras_candle.data.inexact_order import inexact_orders
from keras_candle.data.input_data import ARRAYS, DATASET, PYDATASET, Division, InputData
from keras_candle.data.iterator_data import read_in_order
from keras_candle.data.keras_adapters import ResumableAdapter, ResumableDataset
from keras_candle.data.pydataset import PyDatasetShard
from keras_candle.data.shard import Shard, lookups_of_row
from keras_candle.data.shared_randomness import SharedRandomness
from keras_candle.data.tf_dataset import DatasetShard, describe_generated
from keras_candle.engine.base import Engine
from keras_candle.engine.consensus import together
from keras_candle.errors import DataError
from keras_candle.keras_private.data import DataAdapter, input_arrays, train_validation_split


@dataclass(frozen=True)
class ShardedInput:
    """A rank's shard of the data for `fit` or `evaluate`, with facts on which all ranks agree.

    Attributes:
        adapter: the DataAdapter that Keras gets as x.
        steps: the number of steps that Keras gets, None for all.
        steps_per_epoch: steps of an epoch, the same on all ranks; None when unknown.
        may_be_empty: whether a rank can be without rows in a step.
        knows_total: whether each shard has the rows of its global batch.
        totals: see `ArrayShard.totals`; empty where each shard has its total, or it is unknown.
        rows_expected: about how many rows a rank has in one step; the same on all ranks.
        lookups_expected: at most how many embedding rows a batch looks up; the same on all ranks.
        growth: how many times as large the global batch is as on one rank.
        for_training: False for evaluation.
        is_divided: False where each rank passes its own data.
    """

    adapter: Any
    steps: int | None
    steps_per_epoch: int | None
    may_be_empty: bool
    knows_total: bool
    totals: dict[int, int]
    rows_expected: int
    lookups_expected: int
    growth: int
    for_training: bool
    is_divided: bool

    @property
    def must_not_run_out(self) -> bool:
        """Whether a step without rows means that this rank's own data ended early."""
        return isinstance(self.adapter, ResumableDataset)

    def spec(self) -> Any:
        """Return the tensor specs of a batch as the model sees it."""
        return _spec(self.adapter)


def make_sharded_input(source: InputData, division: Division, engine: Engine) -> ShardedInput:
    """Divide the data among the ranks and agree on the number of steps.

    Raises:
        DataError: on every rank, before the first step: no rows, data that cannot be divided,
            data or numbers of steps that differ by rank, a batch size that the number of ranks
            does not divide.
    """
    if isinstance(source.x, DataAdapter):
        return _sharded_input(source.x, source.steps, source, division, engine)
    is_pydataset = isinstance(source.x, keras.utils.PyDataset)
    randomness = SharedRandomness(engine, source.x if is_pydataset else None)
    by_user = source.is_sharded(division)
    what = "the number of batches" if by_user else "the data they were given"
    together(lambda: source.describe(division, engine.size, randomness), engine, what)
    if not by_user and source.kind == DATASET and randomness.differs():
        # Without seeds a from_generator may draw another order on each rank; with seeds it is not
        # called once more, which could move a generator of its own on.
        with randomness.undone():
            together(lambda: describe_generated(source.x), engine, what)
    if by_user:
        adapter, steps = _per_rank(source, division, engine), source.steps
    elif source.kind == ARRAYS:
        adapter = _divided_arrays(source, division, engine)
        steps = _steps_of_rank(source, division, engine)
    else:
        adapter = _assigned(source, division, engine, randomness)
        steps = _assigned_steps(adapter, source, engine)
    if source.start:
        adapter.doubts = inexact_orders(source, adapter)
    return _sharded_input(adapter, steps, source, division, engine)


def make_sharded_inputs(
    call: Mapping[str, Any], division: Division, engine: Engine, start: DataCursor | None = None
) -> tuple[ShardedInput, ShardedInput | None]:
    """Divide the training data and the validation data of `fit` among the ranks.

    Args:
        call: the arguments of `fit`, by name.
        division: how the ranks divide data and batches.
        engine: connects the ranks.
        start: the data cursor to resume from; None for a new training.

    Raises:
        DataError: see `make_sharded_input`.
        EngineError: when the ranks' arguments differ.
    """
    names = ("epochs", "initial_epoch", "validation_freq", "validation_split")
    alike = {name: call[name] for name in names}
    alike["validation_data"] = "given" if call["validation_data"] is not None else "none"
    engine.agree("the arguments of fit", alike)
    # Before dividing the data, or each rank would hold out its own last rows.
    data, held_out = held_out_of(call)
    training = make_sharded_input(training_source(call, data, start), division, engine)
    if held_out is None:
        return training, None
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(held_out)
    validation = InputData(
        x,
        y,
        sample_weight,
        batch_size=call["validation_batch_size"] or call["batch_size"],
        steps=call["validation_steps"],
    )
    return training, make_sharded_input(validation, division, engine)


def held_out_of(call: Mapping[str, Any]) -> tuple[tuple[Any, Any, Any], Any]:
    """Return (x, y, sample_weight) and the validation data from the arguments of `fit`."""
    data = (call["x"], call["y"], call["sample_weight"])
    held_out = call["validation_data"]
    if call["validation_split"] and held_out is None:
        data, held_out = train_validation_split(data, validation_split=call["validation_split"])
    return data, held_out


def training_source(
    call: Mapping[str, Any], data: tuple[Any, Any, Any], start: DataCursor | None
) -> InputData:
    """Return the training data from the arguments of `fit`."""
    return InputData(
        *data,
        call["class_weight"],
        call["batch_size"],
        call["shuffle"],
        call["steps_per_epoch"],
        for_training=True,
        start=start,
    )


def _per_rank(source: InputData, division: Division, engine: Engine) -> Any:
    adapter = source.per_rank_adapter(division, engine.size)
    if not source.for_training:
        return adapter
    kind = ResumableDataset if adapter.num_batches is None else ResumableAdapter
    return kind(adapter, source.start, source.x)


def _divided_arrays(source: InputData, division: Division, engine: Engine) -> Any:
    arrays, batch_size = input_arrays(source.keras_adapter), source.keras_adapter.batch_size
    if source.for_training:
        global_batch_size = batch_size * division.batch_growth(engine.size)
        return ArrayShard(arrays, global_batch_size, source.shuffle, engine, start=source.start)
    # As batches of one rank: a metric may depend on the batch, and there is no gradient to average.
    limit = source.steps and source.steps * batch_size
    return ArrayShard(arrays, batch_size, False, engine, limit, divided=False)


def _steps_of_rank(source: InputData, division: Division, engine: Engine) -> int | None:
    """`fit`'s steps_per_epoch, divided among the ranks."""
    if not source.steps or not source.for_training:
        return None
    return math.ceil(source.steps / division.batch_growth(engine.size))


def _assigned(
    source: InputData, division: Division, engine: Engine, randomness: SharedRandomness
) -> DatasetShard | PyDatasetShard:
    """The rank's shard of data that come in batches."""
    if source.kind == PYDATASET:
        batch = division.batch if source.for_training else "replica"
        return PyDatasetShard(source, batch, engine, randomness)
    dataset = source.x if source.kind == DATASET else read_in_order(source, randomness)
    class_weight = source.class_weight if source.kind == DATASET else None
    if not source.for_training:
        some = dataset.take(source.steps) if source.steps else dataset
        return DatasetShard(some, "replica", engine, class_weight)
    return DatasetShard(dataset, division.batch, engine, class_weight, source.steps, source.start)


def _assigned_steps(adapter: Any, source: InputData, engine: Engine) -> int | None:
    """Rounds of an epoch or evaluation that ends before the data do; None otherwise."""
    if source.steps and (source.for_training or source.kind == PYDATASET):
        rounds: int | None = adapter.assignment.rounds_of_epoch
        return rounds
    if source.steps and adapter.num_batches is None:
        # The data's end is unknown, and Keras would warn that they have run out.
        return math.ceil(source.steps / engine.size)
    return None


def _sharded_input(
    adapter: Any, steps: int | None, source: InputData, division: Division, engine: Engine
) -> ShardedInput:
    rows = int(adapter.batch_size or 32)
    by_rank = engine.gather_results(
        lambda: (rows, rows * lookups_of_row(_spec(adapter))), DataError
    )
    expected = [max(each) for each in zip(*by_rank, strict=True)]
    return ShardedInput(
        adapter,
        steps,
        steps or adapter.num_batches,
        getattr(adapter, "may_be_empty", False),
        getattr(adapter, "knows_total", False),
        getattr(adapter, "totals", {}),
        rows_expected=int(expected[0]),
        lookups_expected=int(expected[1]),
        growth=division.batch_growth(engine.size),
        for_training=source.for_training,
        is_divided=isinstance(adapter, ArrayShard | DatasetShard | PyDatasetShard),
    )


def _spec(adapter: Any) -> Any:
    spec = adapter.get_tf_dataset().element_spec
    return spec.data if isinstance(spec, Shard) else spec
