"""Reasons why data that are read again may come in another order than before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from keras_candle.data.array_shard import ArrayShard
from keras_candle.data.data_cursor import DataCursor
from keras_candle.data.input_data import DATASET, PYDATASET, STREAM, InputData
from keras_candle.data.tf_dataset import ancestors, draws_unseeded, is_unseeded, nodes_of
from keras_candle.keras_private.data import dataset_functions, keeps_order

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
