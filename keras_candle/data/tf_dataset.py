"""Each rank's shard of a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import xxhash

from keras_candle import backend
from keras_candle.data.batch_assignment import BatchAssignment, shared_part
from keras_candle.data.data_cursor import DataCursor, EpochIterator, PassAdapter
from keras_candle.data.fingerprint import fingerprint
from keras_candle.data.shard import known_rows
from keras_candle.data.shared_randomness import SharedRandomness
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError
from keras_candle.keras_private.data import (
    TFDatasetAdapter,
    dataset_functions,
    dataset_inputs,
    dataset_seeds,
)

# Datasets made of tensors, such as rows in an order of the program's own, or the names of files.
_OF_TENSORS = ("_TensorSliceDataset", "_TensorDataset")
_ELEMENTS = 32


class DatasetShard(PassAdapter):
    """A rank's batches of a dataset that every rank has as a whole.

    Args:
        dataset: yields batches.
        batch: "replica": the dataset's batches are assigned to the ranks in turn; a rank that gets
            none in the last round repeats another's batch, with weight 0. "global": each batch is
            divided, and this rank takes its rows r, r + N, r + 2N, ... , one fewer than other ranks
            or none where N does not divide the rows.
        engine: connects the ranks.
        class_weight: dict from class index to weight, or None.
        steps: batches of the whole dataset in an epoch, None for all.
        start: the data cursor to resume from; None for a new training.
    """

    # The shared generators, where Python code reads the data.
    randomness: SharedRandomness | None = None

    def __init__(
        self,
        dataset: Any,
        batch: str,
        engine: Engine,
        class_weight: dict[int, float] | None = None,
        steps: int | None = None,
        start: DataCursor | None = None,
    ) -> None:
        self.source = dataset
        dataset = TFDatasetAdapter(dataset, class_weight=class_weight).get_tf_dataset()
        rows = known_rows(dataset.element_spec)
        self._batch_size = rows
        # Batches of unknown size may be ragged anywhere, and a round may end in the middle.
        self.knows_total = batch != "replica"
        self.may_be_empty = batch == "replica" or rows is None or rows < engine.size
        self._start = start or DataCursor()
        ranks = (engine.rank, engine.size) if batch == "replica" else (0, 1)
        if batch != "replica":
            self._batch_size = shared_part(rows, engine.size)

        def assigned(taken: int) -> tuple[BatchAssignment, Any]:
            left = dataset.skip(taken) if taken else dataset
            if batch != "replica":
                part = backend.current().divided_batches(left, engine)
                return BatchAssignment(*ranks, None, steps), part
            cardinality = int(left.cardinality())
            assignment = BatchAssignment(*ranks, cardinality if cardinality >= 0 else None, steps)
            return assignment, backend.current().assigned_batches(left, assignment)

        self.assignment, self._dataset = assigned(0)
        self._left = self._dataset
        taken = self.assignment.whole_epochs(self._start.taken)
        self._start = replace(self._start, taken=taken)
        if taken:
            _, self._left = assigned(taken)
        rest = self._left if taken else None
        self.passes = EpochIterator(self._dataset, rest, self._start.begun)

    def position_after(self, passes: int, steps: int, begun: int) -> DataCursor:
        """Return the data cursor after some steps, see `ArrayShard.position_after`."""
        before = self._start.taken if passes == self._start.passes else 0
        taken = before + self.assignment.taken_in(steps)
        return DataCursor(passes, min(taken, self.assignment.batches or taken), begun)

    def steps_left(self, taken: int) -> int | None:
        """Return the remaining steps of a pass after `taken` batches; None when unknown."""
        if taken != self._start.taken:
            batches = self.assignment.batches
            return (
                None
                if batches is None
                else replace(self.assignment, batches=batches - taken).rounds()
            )
        cardinality = int(self._left.cardinality())
        return cardinality if cardinality >= 0 else None

    @property
    def num_batches(self) -> int | None:
        """Steps of an epoch, None when the dataset's cardinality is unknown."""
        cardinality = int(self._dataset.cardinality())
        return cardinality if cardinality >= 0 else None

    @property
    def batch_size(self) -> int | None:
        """Rows of this rank in a step, None when unknown."""
        return self._batch_size


def is_sharded_by_user(dataset: Any) -> bool:
    """Whether the dataset is marked, by AutoShardPolicy.OFF, as one rank's shard already."""
    return bool(dataset.options().experimental_distribute.auto_shard_policy.name == "OFF")


def describe_dataset(dataset: Any) -> list[str]:
    """Describe the properties of a dataset that must be the same on all ranks.

    Raises:
        DataError: see `check_dataset`.
    """
    check_dataset(dataset)
    seeds = [found for each in ancestors(dataset) if (found := dataset_seeds(each)) is not None]
    batches = int(dataset.cardinality())
    tensors = [each for each in ancestors(dataset) if type(each).__name__ in _OF_TENSORS]
    return [
        f"{batches} batches of {dataset.element_spec}",
        f"seeds of shuffles {seeds}",
        *(_first_elements(each, "tensors") for each in tensors),
    ]


def describe_generated(dataset: Any) -> list[str]:
    """Describe the first elements of each `from_generator` in a dataset: it is called once more."""
    return [
        _first_elements(each, "from_generator")
        for each in ancestors(dataset)
        if any("GeneratorDataset" in _ops_of(function) for function in dataset_functions(each))
    ]


def _first_elements(dataset: Any, of: str) -> str:
    """Some elements in words, not one: two orders often begin with the same row or label."""
    seen: list[str] = []
    for element in dataset.take(_ELEMENTS):
        # The targets where there are some: x may be augmented, differently on each rank.
        several = isinstance(element, tuple) and len(element) > 1
        seen += fingerprint(element[1] if several else element)
    checksum = xxhash.xxh3_64("\n".join(seen).encode()).hexdigest()
    first = seen[0] if seen else "none"
    return f"the first {_ELEMENTS} elements of {of}: {first}; of all {checksum}"


def check_dataset(dataset: Any) -> None:
    """Refuse a dataset whose rows the ranks cannot share.

    Raises:
        DataError: when there is no batch, or rows are ordered or chosen by draws without a seed:
            some would go to two ranks and others to none.
    """
    if int(dataset.cardinality()) == 0:
        raise DataError("The tf.data.Dataset has no batch, expected at least one.")
    for how, calls in _unseeded_orders(dataset):
        raise DataError(
            f"The tf.data.Dataset is {how} without a seed, so its order differs on each rank "
            "and rows would be lost. Call keras.utils.set_random_seed(...) before the dataset is "
            f"made, or give its {calls} a seed."
        )


def _unseeded_orders(dataset: Any) -> Iterator[tuple[str, str]]:
    """How rows are ordered or chosen by unseeded draws, and the calls to give a seed to."""
    for each in ancestors(dataset):
        name = type(each).__name__
        chooses = "Filter" in name or "TakeWhile" in name
        if is_unseeded(each) and "Shuffle" in name:
            yield "shuffled", "shuffle(...)"
        elif is_unseeded(each):
            yield "drawn", "sample_from_datasets(...) or random(...)"
        elif chooses and any(map(_draws_unseeded, dataset_functions(each))):
            yield "filtered by draws", "random operations"


def nodes_of(function: Any) -> list[Any]:
    """Return the nodes of a traced function's graph and of all functions that it calls."""
    graph = function.graph.as_graph_def()
    return [*graph.node, *(node for each in graph.library.function for node in each.node_def)]


def draws_unseeded(node: Any) -> bool:
    """Whether a node of a graph draws without a seed."""
    seeds = "seed" in node.attr and "seed2" in node.attr
    return seeds and node.attr["seed"].i == node.attr["seed2"].i == 0


def _ops_of(function: Any) -> set[str]:
    return {node.op for node in nodes_of(function)}


def _draws_unseeded(function: Any) -> bool:
    return any(map(draws_unseeded, nodes_of(function)))


def ancestors(dataset: Any) -> Iterator[Any]:
    """Yield a dataset and all datasets that it was made from."""
    yield dataset
    for each in dataset_inputs(dataset):
        yield from ancestors(each)


def is_unseeded(dataset: Any) -> bool:
    """Whether a dataset draws at random itself without a seed."""
    return dataset_seeds(dataset) == (0, 0)
