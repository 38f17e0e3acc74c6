"""The sharded input that replaces the user's data in `fit` and `evaluate`.

A training that resumes may have to read data again: there are reasons why they may come in another
order than before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

import keras

from keras_candle import backend
from keras_candle.backend import Shard
from keras_candle.data.array_shard import ArrayShard
from keras_candle.data.batch_assignment import Division
from keras_candle.data.data_cursor import DataCursor, PassAdapter
from keras_candle.data.input_data import ARRAYS, DATASET, PYDATASET, STREAM, InputData
from keras_candle.data.keras_adapters import ResumableAdapter, ResumableDataset, read_in_order
from keras_candle.data.pydataset import PyDatasetShard
from keras_candle.data.shard import lookups_of_row
from keras_candle.data.shared_randomness import SharedRandomness
from keras_candle.data.tf_dataset import (
    DatasetShard,
    ancestors,
    describe_generated,
    draws_unseeded,
    is_unseeded,
    nodes_of,
)
from keras_candle.engine.base import Engine
from keras_candle.engine.consensus import together
from keras_candle.errors import DataError
from keras_candle.keras_private.data import (
    DataAdapter,
    dataset_functions,
    input_arrays,
    keeps_order,
    train_validation_split,
)

_PYTHON = ("PyFunc", "EagerPyFunc", "PyFuncStateless")


@dataclass(frozen=True)
class InexactOrder:
    """A reason why a training may not resume exactly in its data.

    Attributes:
        what: the reason.
        then: the effect where the training resumes nevertheless.
        remedy: what to change so that the next resume is exact.
    """

    what: str
    then: str
    remedy: str


@dataclass(frozen=True)
class _PipelineFinding:
    """A source of inexact order in a `tf.data` pipeline.

    Attributes:
        what: completes "the tf.data.Dataset ...".
        remedy: as in `InexactOrder`.
        over_passes: whether a resume at the beginning of a pass is inexact, too.
    """

    what: str
    remedy: str
    over_passes: bool = False


_SEED = "give it a seed, or call keras.utils.set_random_seed(...) before the dataset is made"
_STATELESS = "draw with tf.random.stateless_uniform and its like, by a seed of each element"


def inexact_orders(source: InputData, adapter: Any) -> list[InexactOrder]:
    """List the reasons why the data may not resume exactly from `source.start`; empty if they do.

    Args:
        source: the user's data.
        adapter: the adapter that `fit` gets in their place.
    """
    start = source.start
    if start is None or isinstance(adapter, ArrayShard):
        return []
    doubts = []
    assignment = getattr(adapter, "assignment", None)
    if assignment is not None and assignment.whole_epochs(start.taken) != start.taken:
        doubts.append(_begun_anew(assignment.steps, assignment.size))
    if source.kind == STREAM:
        doubts.append(_of_stream(source.x, start))
    elif source.kind != PYDATASET:
        dataset = source.x if source.kind == DATASET else source.keras_adapter.get_tf_dataset()
        doubts += _of_dataset(dataset, start)
    return doubts


def _begun_anew(steps: int, size: int) -> InexactOrder:
    return InexactOrder(
        f"{steps} steps of an epoch cannot be divided by {size} ranks",
        "the interrupted epoch begins anew, so some batches are seen twice",
        f"make steps_per_epoch a multiple of {size}",
    )


def _of_stream(x: Any, start: DataCursor) -> InexactOrder:
    kind = type(x)
    name = "a generator" if isinstance(x, GeneratorType) else f"{kind.__module__}.{kind.__name__}"
    return InexactOrder(
        f"the training data are {name}, which can only be read from the beginning",
        _read_again(start),
        "give fit arrays, a keras.utils.PyDataset or a seeded tf.data.Dataset",
    )


def _of_dataset(dataset: Any, start: DataCursor) -> list[InexactOrder]:
    found = {each: None for each in _findings(dataset) if start.taken or each.over_passes}
    if not found:
        return []
    remedies = {each.remedy: None for each in found}
    return [
        InexactOrder(
            f"the tf.data.Dataset {' and '.join(each.what for each in found)}",
            _read_again(start),
            " and ".join(remedies),
        )
    ]


def _read_again(start: DataCursor) -> str:
    if not start.taken:
        return "its next pass begins as if nothing had been read before"
    return f"{start.taken} batches are read again and skipped, as if they were the same"


def _findings(dataset: Any) -> Iterator[_PipelineFinding]:
    if dataset.options().deterministic is False:
        yield _PipelineFinding("keeps no order (deterministic=False)", "ask for deterministic=True")
    for each in ancestors(dataset):
        name = type(each).__name__.strip("_")
        if is_unseeded(each):
            yield _PipelineFinding(f"draws without a seed ({name})", _SEED)
        if not keeps_order(each):
            yield _PipelineFinding(f"keeps no order ({name})", "ask for deterministic=True")
        for function in dataset_functions(each):
            yield from _findings_in(function, parallel="Parallel" in name)


def _findings_in(function: Any, *, parallel: bool) -> Iterator[_PipelineFinding]:
    for node in nodes_of(function):
        if node.op in _PYTHON:
            remedy = "use operations of TensorFlow, or a keras.utils.PyDataset"
            yield _PipelineFinding(f"runs Python code ({node.op})", remedy, over_passes=True)
        elif node.op == "RngReadAndSkip" or node.op.startswith("Assign"):
            yield _PipelineFinding(f"changes variables ({node.op})", _STATELESS, over_passes=True)
        elif "seed" in node.attr and "seed2" in node.attr:
            if draws_unseeded(node):
                yield _PipelineFinding(f"draws without a seed ({node.op})", _SEED)
            elif parallel:
                yield _PipelineFinding(f"draws in parallel calls ({node.op})", _STATELESS)


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
    is_ours = isinstance(adapter, PassAdapter)
    spec = (adapter.passes if is_ours else backend.current().batches_of(adapter)).element_spec
    return spec.data if isinstance(spec, Shard) else spec
