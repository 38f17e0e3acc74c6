"""Keras's and TensorFlow's private names that keras_candle leans on: all of them, and why.

A contract test looks each of them up in the oldest and the newest Keras that we support.
"""

from __future__ import annotations

import functools
import importlib
import sys
from dataclasses import dataclass
from typing import Any

import keras

from keras_candle.errors import CandleError

_SUPPORTED = "Install a Keras that it supports: pip install 'keras>=3.7,<3.16'."


@dataclass(frozen=True)
class PrivateName:
    """A name that its library may change without notice.

    Attributes:
        module: where it lives.
        path: dotted path inside the module.
        purpose: what would no longer work without it.
    """

    module: str
    path: str
    purpose: str


_ADAPTERS = "keras.src.trainers.data_adapters"
_TRAINER = "keras.src.backend.tensorflow.trainer"
_OPTIMIZER = "keras.src.optimizers.base_optimizer"
_TF_OPTIMIZER = "keras.src.backend.tensorflow.optimizer"
_SEEDS = "keras.src.random.seed_generator"
_GLOBALS = "keras.src.backend.common.global_state"
_SAVING = "keras.src.saving.saving_lib"
_MASKING = "keras.src.backend.common.masking"
_DATASETS = "tensorflow.python.data.ops"
_PARALLEL = (
    ("map_op", "_ParallelMapDataset"),
    ("batch_op", "_ParallelBatchDataset"),
    ("readers", "ParallelInterleaveDataset"),
)
_OF_TENSORS = (
    ("from_tensor_slices_op", "_TensorSliceDataset"),
    ("from_tensors_op", "_TensorDataset"),
)

PRIVATE_NAMES = (
    PrivateName(f"{_ADAPTERS}.data_adapter", "DataAdapter", "sharded data in fit and evaluate"),
    PrivateName(f"{_ADAPTERS}.array_data_adapter", "ArrayDataAdapter", "arrays of rows"),
    PrivateName(f"{_ADAPTERS}.tf_dataset_adapter", "TFDatasetAdapter", "class weights"),
    PrivateName(
        f"{_ADAPTERS}.py_dataset_adapter", "PyDatasetAdapter._get_iterator", "PyDatasets by rank"
    ),
    PrivateName(f"{_ADAPTERS}.array_slicing", "convert_to_sliceable", "arrays of any kind"),
    PrivateName(f"{_ADAPTERS}.array_slicing", "train_validation_split", "validation_split"),
    PrivateName(
        f"{_ADAPTERS}.data_adapter_utils", "class_weight_to_sample_weights", "train_on_batch"
    ),
    PrivateName(f"{_ADAPTERS}", "get_data_adapter", "sharded data passes through it unchanged"),
    PrivateName(_TRAINER, "TensorFlowTrainer.make_train_function", "hooks before each training"),
    PrivateName(_TRAINER, "TensorFlowTrainer._compute_loss", "a step that XLA compiles in part"),
    PrivateName(_TRAINER, "TensorFlowTrainer._get_metrics_result_or_logs", "global metrics"),
    PrivateName(_TRAINER, "TensorFlowTrainer._symbolic_build", "weights before the first step"),
    PrivateName(_OPTIMIZER, "BaseOptimizer._get_current_learning_rate", "learning-rate scaling"),
    PrivateName(_OPTIMIZER, "BaseOptimizer._clip_gradients", "accumulation without traffic"),
    PrivateName(
        "keras.src.trainers.compile_utils",
        "CompileLoss._build_nested",
        "losses of divided batches",
    ),
    PrivateName(_OPTIMIZER, "BaseOptimizer._track_variable", "the optimizer's own variables"),
    PrivateName(_TF_OPTIMIZER, "TFOptimizer._backend_update_step", "learning-rate scaling"),
    PrivateName(_TF_OPTIMIZER, "TFOptimizer._apply_weight_decay", "learning-rate scaling"),
    PrivateName(
        "keras.src.layers.normalization.batch_normalization",
        "BatchNormalization._moments",
        "sync_batch_norm",
    ),
    PrivateName("keras.src.layers.layer", "Layer._flatten_layers", "dropout seeds by rank"),
    PrivateName(
        "tensorflow.python.data.ops.dataset_ops", "DatasetV2._inputs", "seeds of tf.data shuffles"
    ),
    PrivateName(
        "tensorflow.python.data.ops.dataset_ops",
        "DatasetV2._functions",
        "whether tf.data is the same when it is read again",
    ),
    PrivateName(f"{_DATASETS}.shuffle_op", "_ShuffleDataset", "seeds of tf.data shuffles"),
    PrivateName(f"{_DATASETS}.random_op", "_RandomDataset", "seeds of tf.data draws"),
    *(
        PrivateName(f"{_DATASETS}.{module}", name, "whether tf.data keeps its order")
        for module, name in _PARALLEL
    ),
    *(
        PrivateName(f"{_DATASETS}.{module}", name, "checksums of tf.data")
        for module, name in _OF_TENSORS
    ),
    PrivateName("numpy.random.bit_generator", "randbits", "default_rng() alike on all ranks"),
    PrivateName(_SEEDS, "global_seed_generator", "resuming what is drawn outside of layers"),
    PrivateName(_GLOBALS, "get_global_attribute", "resuming what is drawn outside of layers"),
    PrivateName(
        f"{_ADAPTERS}.generator_data_adapter", "GeneratorDataAdapter", "the batch of a generator"
    ),
    PrivateName(_MASKING, "get_keras_mask", "losses and metrics of masked outputs"),
    PrivateName(_MASKING, "set_keras_mask", "losses and metrics of masked outputs"),
    PrivateName("keras.src.ops.core", "Cast", "an audit's casts in each precision"),
    PrivateName(_SAVING, "_save_state", "checkpoints: what Keras saves, object by object"),
    PrivateName(_SAVING, "_load_state", "checkpoints: what Keras loads, object by object"),
    PrivateName(_SAVING, "DiskIOStore", "checkpoints: layers' own files, such as vocabularies"),
    PrivateName(_SAVING, "H5IOStore", "checkpoints: Keras's own file without HDF5"),
)


def missing_names(names: tuple[PrivateName, ...] = PRIVATE_NAMES) -> list[PrivateName]:
    """Those of the names that the installed libraries don't have."""
    return [name for name in names if not _exists(name)]


def check_private_names(names: tuple[PrivateName, ...] = PRIVATE_NAMES) -> None:
    """Refuse a Keras that lacks one of the names.

    Raises:
        CandleError: naming the Keras version, the first name and its purpose, and the others.
    """
    missing = missing_names(names)
    if missing:
        first, *rest = missing
        also = f" (it also lacks {', '.join(each.path for each in rest)})" if rest else ""
        raise CandleError(
            f"Keras {keras.__version__} has no {first.module}.{first.path}, which keras_candle "
            f"needs for: {first.purpose}{also}. {_SUPPORTED}"
        )


def _exists(name: PrivateName) -> bool:
    try:
        found: Any = importlib.import_module(name.module)
        for part in name.path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


def _load(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        check_private_names()
        raise


DataAdapter: Any = _load(f"{_ADAPTERS}.data_adapter", "DataAdapter")
ArrayDataAdapter: Any = _load(f"{_ADAPTERS}.array_data_adapter", "ArrayDataAdapter")
TFDatasetAdapter: Any = _load(f"{_ADAPTERS}.tf_dataset_adapter", "TFDatasetAdapter")
PyDatasetAdapter: Any = _load(f"{_ADAPTERS}.py_dataset_adapter", "PyDatasetAdapter")
convert_to_sliceable: Any = _load(f"{_ADAPTERS}.array_slicing", "convert_to_sliceable")
train_validation_split: Any = _load(f"{_ADAPTERS}.array_slicing", "train_validation_split")
class_weight_to_sample_weights: Any = _load(
    f"{_ADAPTERS}.data_adapter_utils", "class_weight_to_sample_weights"
)
TensorFlowTrainer: Any = _load(_TRAINER, "TensorFlowTrainer")
get_data_adapter: Any = _load(_ADAPTERS, "get_data_adapter")
GeneratorDataAdapter: Any = _load(f"{_ADAPTERS}.generator_data_adapter", "GeneratorDataAdapter")
get_keras_mask: Any = _load(_MASKING, "get_keras_mask")
set_keras_mask: Any = _load(_MASKING, "set_keras_mask")


def _attribute(owner: Any, name: str, purpose: str) -> Any:
    """A private attribute of an instance, which no table of names can look up beforehand."""
    try:
        return getattr(owner, name)
    except AttributeError as cause:
        kind = type(owner)
        library = kind.__module__.partition(".")[0]
        version = getattr(sys.modules.get(library), "__version__", "of unknown version")
        raise CandleError(
            f"{kind.__module__}.{kind.__qualname__} has no {name}, which keras_candle needs for: "
            f"{purpose}. Installed is {library} {version}, with Keras {keras.__version__}. "
            f"{_SUPPORTED}"
        ) from cause


def compile_loss(model: Any) -> Any:
    """What combines the compiled losses of a model's outputs; None before it is compiled."""
    return _attribute(model, "_compile_loss", "losses of divided batches")


def compiled_losses(model: Any) -> Any:
    """A model's compiled losses, as a list in which they can be replaced; empty until built."""
    compiled = compile_loss(model)
    if compiled is None:
        return []
    losses = _attribute(compiled, "_flat_losses", "losses of divided batches")
    return [] if losses is None else losses


def compile_arguments(model: Any) -> dict[str, Any]:
    """What a model was compiled with, by argument: the objects themselves."""
    purpose = "resuming a model that a callback compiles again"
    return dict(_attribute(_attribute(model, "_compile_config", purpose), "config", purpose))


def metric_parts(metric: Any) -> list[Any]:
    """The metrics that a metric consists of, where it keeps them as attributes."""
    return list(_attribute(metric, "_metrics", "metrics over all ranks"))


def metric_direction(metric: Any) -> str | None:
    """Which way a metric gets better, "min" or "max"; None where Keras does not say.

    Only some metrics have the attribute, as Keras's own callbacks know. A contract test holds that
    it has this name.
    """
    return {"up": "max", "down": "min"}.get(getattr(metric, "_direction", ""))


def metric_function(metric: Any) -> Any:
    """The function of (y_true, y_pred) of which a `MeanMetricWrapper` takes the mean."""
    purpose = "function metrics over all ranks"
    function = _attribute(metric, "_fn", purpose)
    return functools.partial(function, **_attribute(metric, "_fn_kwargs", purpose))


def first_batch(adapter: Any) -> Any:
    """The first batch of Keras's adapter of a stream, without losing it for the training."""
    if isinstance(adapter, GeneratorDataAdapter):
        taken = _attribute(adapter, "_first_batches", "the batch of a generator")
        if taken:
            return taken[0]
    return next(iter(adapter.get_numpy_iterator()))


def dataset_functions(dataset: Any) -> list[Any]:
    """The traced functions that a `tf.data.Dataset` itself calls, such as those of its `map`."""
    return [each.function for each in dataset._functions()]


def dataset_inputs(dataset: Any) -> list[Any]:
    """The datasets that a `tf.data.Dataset` was made from."""
    return list(dataset._inputs())


def _is_dataset(dataset: Any, *kinds: tuple[str, str]) -> bool:
    return isinstance(dataset, tuple(_load(f"{_DATASETS}.{kind[0]}", kind[1]) for kind in kinds))


def dataset_seeds(dataset: Any) -> tuple[int, int] | None:
    """The seeds by which a `tf.data.Dataset` itself draws, (0, 0) for none; None if it does not."""
    kinds = (("shuffle_op", "_ShuffleDataset"), ("random_op", "_RandomDataset"))
    if not _is_dataset(dataset, *kinds):
        return None
    purpose = "seeds of tf.data shuffles"
    return int(_attribute(dataset, "_seed", purpose)), int(_attribute(dataset, "_seed2", purpose))


def keeps_order(dataset: Any) -> bool:
    """Whether a `tf.data.Dataset` that calls functions in parallel gives what it gives in order."""
    if not _is_dataset(dataset, *_PARALLEL):
        return True
    purpose = "whether tf.data keeps its order"
    return bool(_attribute(dataset, "_deterministic", purpose) != "false")


def dataset_arrays(dataset: Any) -> Any:
    """The tensors that a `tf.data.Dataset` was made from, None where it was made from others."""
    if not _is_dataset(dataset, *_OF_TENSORS):
        return None
    return _attribute(dataset, "_tensors", "checksums of tf.data")


def global_seed_generator(*, make: bool = False) -> Any:
    """Keras's generator for what is drawn without a seed; None where nothing was, unless made."""
    if make:
        return _load(_SEEDS, "global_seed_generator")()
    return _load(_GLOBALS, "get_global_attribute")("global_seed_generator")
