"""Load a private name, or raise an error with the installed version and the use that needs it.

A contract test looks each name of `PRIVATE_NAMES` up in the oldest and the newest Keras that is
supported, and in the nightly one.
"""

from __future__ import annotations

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


ADAPTERS = "keras.src.trainers.data_adapters"
TRAINER = "keras.src.backend.tensorflow.trainer"
_OPTIMIZER = "keras.src.optimizers.base_optimizer"
_TF_OPTIMIZER = "keras.src.backend.tensorflow.optimizer"
SEEDS = "keras.src.random.seed_generator"
GLOBALS = "keras.src.backend.common.global_state"
SAVING = "keras.src.saving.saving_lib"
MASKING = "keras.src.backend.common.masking"
DATASETS = "tensorflow.python.data.ops"
PARALLEL = (
    ("map_op", "_ParallelMapDataset"),
    ("batch_op", "_ParallelBatchDataset"),
    ("readers", "ParallelInterleaveDataset"),
)
OF_TENSORS = (
    ("from_tensor_slices_op", "_TensorSliceDataset"),
    ("from_tensors_op", "_TensorDataset"),
)

PRIVATE_NAMES = (
    PrivateName(f"{ADAPTERS}.data_adapter", "DataAdapter", "sharded data in fit and evaluate"),
    PrivateName(f"{ADAPTERS}.array_data_adapter", "ArrayDataAdapter", "arrays of rows"),
    PrivateName(f"{ADAPTERS}.tf_dataset_adapter", "TFDatasetAdapter", "class weights"),
    PrivateName(
        f"{ADAPTERS}.py_dataset_adapter", "PyDatasetAdapter._get_iterator", "PyDatasets by rank"
    ),
    PrivateName(f"{ADAPTERS}.array_slicing", "convert_to_sliceable", "arrays of any kind"),
    PrivateName(f"{ADAPTERS}.array_slicing", "train_validation_split", "validation_split"),
    PrivateName(
        f"{ADAPTERS}.data_adapter_utils", "class_weight_to_sample_weights", "train_on_batch"
    ),
    PrivateName(f"{ADAPTERS}", "get_data_adapter", "sharded data passes through it unchanged"),
    PrivateName(TRAINER, "TensorFlowTrainer.make_train_function", "hooks before each training"),
    PrivateName(TRAINER, "TensorFlowTrainer._compute_loss", "a step that XLA compiles in part"),
    PrivateName(TRAINER, "TensorFlowTrainer._get_metrics_result_or_logs", "global metrics"),
    PrivateName(TRAINER, "TensorFlowTrainer._symbolic_build", "weights before the first step"),
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
    PrivateName(f"{DATASETS}.shuffle_op", "_ShuffleDataset", "seeds of tf.data shuffles"),
    PrivateName(f"{DATASETS}.random_op", "_RandomDataset", "seeds of tf.data draws"),
    *(
        PrivateName(f"{DATASETS}.{module}", name, "whether tf.data keeps its order")
        for module, name in PARALLEL
    ),
    *(
        PrivateName(f"{DATASETS}.{module}", name, "checksums of tf.data")
        for module, name in OF_TENSORS
    ),
    PrivateName("numpy.random.bit_generator", "randbits", "default_rng() alike on all ranks"),
    PrivateName(SEEDS, "global_seed_generator", "resuming what is drawn outside of layers"),
    PrivateName(GLOBALS, "get_global_attribute", "resuming what is drawn outside of layers"),
    PrivateName(
        f"{ADAPTERS}.generator_data_adapter", "GeneratorDataAdapter", "the batch of a generator"
    ),
    PrivateName(MASKING, "get_keras_mask", "losses and metrics of masked outputs"),
    PrivateName(MASKING, "set_keras_mask", "losses and metrics of masked outputs"),
    PrivateName("keras.src.ops.core", "Cast", "an audit's casts in each precision"),
    PrivateName(SAVING, "_save_state", "checkpoints: what Keras saves, object by object"),
    PrivateName(SAVING, "_load_state", "checkpoints: what Keras loads, object by object"),
    PrivateName(SAVING, "DiskIOStore", "checkpoints: layers' own files, such as vocabularies"),
    PrivateName(SAVING, "H5IOStore", "checkpoints: Keras's own file without HDF5"),
)


def missing_names(names: tuple[PrivateName, ...] = PRIVATE_NAMES) -> list[PrivateName]:
    """Those of the names that the installed libraries don't have, for Keras's backend."""
    uses_tensorflow = keras.backend.backend() == "tensorflow"
    needed = [each for each in names if uses_tensorflow or "tensorflow" not in each.module]
    return [name for name in needed if not _exists(name)]


def check_private_names(names: tuple[PrivateName, ...] = PRIVATE_NAMES) -> None:
    """Refuse a Keras that lacks one of the names; not while it is still being imported.

    Raises:
        CandleError: naming the Keras version, the first name and its purpose, and the others.
    """
    missing = missing_names(names)
    if missing and hasattr(keras, "__version__"):  # the last name that Keras defines
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


def load_private(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        check_private_names()
        raise


def private_attribute(owner: Any, name: str, purpose: str) -> Any:
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
