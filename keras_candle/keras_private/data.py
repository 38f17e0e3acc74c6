"""Keras's data adapters, and what a `tf.data.Dataset` was made from."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Any

from keras_candle.keras_private.contract import (
    ADAPTERS,
    DATASETS,
    OF_TENSORS,
    PARALLEL,
    load_private,
    private_attribute,
)

DataAdapter: Any = load_private(f"{ADAPTERS}.data_adapter", "DataAdapter")
ArrayDataAdapter: Any = load_private(f"{ADAPTERS}.array_data_adapter", "ArrayDataAdapter")
TFDatasetAdapter: Any = load_private(f"{ADAPTERS}.tf_dataset_adapter", "TFDatasetAdapter")
PyDatasetAdapter: Any = load_private(f"{ADAPTERS}.py_dataset_adapter", "PyDatasetAdapter")
convert_to_sliceable: Any = load_private(f"{ADAPTERS}.array_slicing", "convert_to_sliceable")
train_validation_split: Any = load_private(f"{ADAPTERS}.array_slicing", "train_validation_split")
class_weight_to_sample_weights: Any = load_private(
    f"{ADAPTERS}.data_adapter_utils", "class_weight_to_sample_weights"
)
get_data_adapter: Any = load_private(ADAPTERS, "get_data_adapter")
_GeneratorDataAdapter: Any = load_private(
    f"{ADAPTERS}.generator_data_adapter", "GeneratorDataAdapter"
)


def is_tf_dataset(data: Any) -> bool:
    """Check for a `tf.data.Dataset`, without importing TensorFlow for data that are none."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(data, tensorflow.data.Dataset)


def input_arrays(adapter: Any) -> Any:
    """Return the structure of arrays that an `ArrayDataAdapter` slices into batches."""
    return private_attribute(adapter, "_inputs", "arrays of rows")


def pydataset_batches(adapter: Any) -> Iterator[Any]:
    """Iterate over the batches of a `PyDatasetAdapter`, loaded by its workers."""
    batches: Iterator[Any] = private_attribute(adapter, "_get_iterator", "PyDatasets by rank")()
    return batches


def first_batch(adapter: Any) -> Any:
    """Return the first batch of an adapter, without losing it for the training."""
    if isinstance(adapter, _GeneratorDataAdapter):
        taken = private_attribute(adapter, "_first_batches", "the batch of a generator")
        if taken:
            return taken[0]
    return next(iter(adapter.get_numpy_iterator()))


def limit_passes(adapter: Any, batches: int) -> None:
    """Let each pass over an adapter of a generator read its next batches, so many a pass.

    Keras begins each pass with the generator's first batches again, and loses those that it has
    read ahead. Adapters of other data stay as they are.
    """
    if isinstance(adapter, _GeneratorDataAdapter):
        left = iter(private_attribute(adapter, "generator", "evaluations of a generator")())
        adapter.generator = lambda: itertools.islice(left, batches)


def dataset_functions(dataset: Any) -> list[Any]:
    """Return the traced functions that a dataset itself calls, such as those of its `map`."""
    return [each.function for each in dataset._functions()]


def dataset_inputs(dataset: Any) -> list[Any]:
    """Return the datasets that a dataset was made from."""
    return list(dataset._inputs())


def dataset_seeds(dataset: Any) -> tuple[int, int] | None:
    """Return the seeds by which a dataset itself draws, (0, 0) for none; None if it never does."""
    kinds = (("shuffle_op", "_ShuffleDataset"), ("random_op", "_RandomDataset"))
    if not _is_dataset(dataset, *kinds):
        return None
    seeds = [private_attribute(dataset, name, "seeds of tf.data") for name in ("_seed", "_seed2")]
    return int(seeds[0]), int(seeds[1])


def keeps_order(dataset: Any) -> bool:
    """Check that a dataset that calls functions in parallel yields its elements in order."""
    if not _is_dataset(dataset, *PARALLEL):
        return True
    order = private_attribute(dataset, "_deterministic", "whether tf.data keeps its order")
    return bool(order != "false")


def dataset_arrays(dataset: Any) -> Any:
    """Return the tensors that a dataset was made from; None where it was made from datasets."""
    if not _is_dataset(dataset, *OF_TENSORS):
        return None
    return private_attribute(dataset, "_tensors", "checksums of tf.data")


def _is_dataset(dataset: Any, *kinds: tuple[str, str]) -> bool:
    return isinstance(
        dataset, tuple(load_private(f"{DATASETS}.{module}", name) for module, name in kinds)
    )
