"""Keras's models, layers and metrics."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import keras

from keras_candle.keras_private.contract import (
    GLOBALS,
    MASKING,
    SEEDS,
    load_private,
    private_attribute,
)

KerasTrainer: Any = keras.Model.__mro__[1]
"""The base class of `keras.Model` with its methods for the backend, such as `train_step`."""

get_keras_mask: Any = load_private(MASKING, "get_keras_mask")
set_keras_mask: Any = load_private(MASKING, "set_keras_mask")

METRICS_RESULT = "_get_metrics_result_or_logs"
"""The method by which `fit` and `evaluate` read the metrics after an epoch."""

_SPLIT_STEP = "a step that XLA compiles in part"
_LOSSES = "losses of divided batches"
_GRAPH = "an audit of functional models"


def is_keras_class(kind: type) -> bool:
    """Check that a class is one of Keras's own, and no subclass of a user's."""
    return kind.__module__.startswith("keras.src")


def layers_of(model: Any) -> list[Any]:
    """Return a model with all layers in it, at any depth."""
    return list(private_attribute(model, "_flatten_layers", "layers inside of layers")())


def layers_inside(layer: Any, *, recursive: bool = True) -> list[Any]:
    """Return the layers in a layer or model, at any depth or right below it."""
    flatten = private_attribute(layer, "_flatten_layers", "layers inside of layers")
    return list(flatten(include_self=False, recursive=recursive))


def seed_generators(layer: Any) -> list[Any]:
    """Return the seed generators that a layer itself holds, without those of layers inside."""
    return list(private_attribute(layer, "_seed_generators", "dropout seeds by rank"))


def own_non_trainable_variables(layer: Any) -> list[Any]:
    """Return the non-trainable variables of a layer, without those of layers inside."""
    return list(private_attribute(layer, "_non_trainable_variables", "moving statistics"))


def global_seed_generator(*, make: bool = False) -> Any:
    """Return Keras's generator for unseeded draws; None where there is none, unless `make`."""
    if make:
        return load_private(SEEDS, "global_seed_generator")()
    return load_private(GLOBALS, "get_global_attribute")("global_seed_generator")


def build_symbolically(model: Any, batch: Any) -> None:
    """Build a compiled model, its metrics and losses from tensor specs of a batch."""
    private_attribute(model, "_symbolic_build", "weights before the first step")(data_batch=batch)


def initial_epoch(model: Any) -> int | None:
    """Return the epoch at which a callback such as BackupAndRestore lets `fit` begin, or None."""
    epoch: int | None = private_attribute(model, "_initial_epoch", "BackupAndRestore")
    return epoch


def set_initial_epoch(model: Any, epoch: int | None) -> None:
    """Let `fit` begin at an epoch, whatever its argument is."""
    model._initial_epoch = epoch


def is_evaluation_of_fit(arguments: Mapping[str, Any]) -> bool:
    """Check the keyword arguments of `evaluate` for those that `fit` gives to its own."""
    return bool(arguments.get("_use_cached_eval_dataset"))


def call_for_training(model: Any, x: Any) -> Any:
    """Call a model as Keras's own `train_step` does."""
    if private_attribute(model, "_call_has_training_arg", _SPLIT_STEP):
        return model(x, training=True)
    return model(x)


def training_loss(model: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Any:
    """Compute a model's loss, without a user's `compute_loss` of an older signature failing."""
    compute = private_attribute(model, "_compute_loss", _SPLIT_STEP)
    return compute(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)


def update_loss_tracker(model: Any, loss: Any, rows: Any) -> None:
    """Add the loss of a batch of so many rows to what a model logs as `loss`."""
    tracker = private_attribute(model, "_loss_tracker", _SPLIT_STEP)
    tracker.update_state(loss, sample_weight=rows)


def flatten_metrics(model: Any, logs: dict[str, Any]) -> Any:
    """Return logs as a list in the order of `model.metrics_names`."""
    return private_attribute(model, "_flatten_metrics_in_order", "train_on_batch")(logs)


def compile_loss(model: Any) -> Any:
    """Return what combines the losses of a model's outputs; None before it is compiled."""
    return private_attribute(model, "_compile_loss", _LOSSES)


def compiled_losses(model: Any) -> Any:
    """Return a model's compiled losses, as a list to replace them in; empty until built."""
    compiled = compile_loss(model)
    if compiled is None:
        return []
    losses = private_attribute(compiled, "_flat_losses", _LOSSES)
    return [] if losses is None else losses


def compile_arguments(model: Any) -> dict[str, Any]:
    """Return the arguments that a model was compiled with: the objects themselves."""
    purpose = "resuming a model that a callback compiles again"
    config = private_attribute(model, "_compile_config", purpose)
    return dict(private_attribute(config, "config", purpose))


def metric_parts(metric: Any) -> list[Any]:
    """Return the metrics that a metric keeps as attributes."""
    return list(private_attribute(metric, "_metrics", "metrics over all ranks"))


def metric_direction(metric: Any) -> str | None:
    """Return which way a metric gets better, "min" or "max"; None where Keras leaves it open.

    Only some metrics have the attribute, as Keras's own callbacks know. A contract test holds that
    it has this name.
    """
    return {"up": "max", "down": "min"}.get(getattr(metric, "_direction", ""))


def metric_function(metric: Any) -> Any:
    """Return the function of (y_true, y_pred) whose mean a `MeanMetricWrapper` takes."""
    purpose = "function metrics over all ranks"
    function = private_attribute(metric, "_fn", purpose)
    return functools.partial(function, **private_attribute(metric, "_fn_kwargs", purpose))


def moments_of(layer: Any) -> Callable[..., Any]:
    """Return the function by which a `BatchNormalization` computes mean and variance."""
    moments: Callable[..., Any] = private_attribute(layer, "_moments", "sync_batch_norm")
    return moments


def replace_moments(layer: Any, moments: Callable[[Any, Any], Any]) -> None:
    """Let a `BatchNormalization` compute mean and variance by `moments(inputs, mask)`."""
    moments_of(layer)
    layer._moments = moments


def reduction_axes(layer: Any) -> list[int]:
    """Return the axes over which a `BatchNormalization` takes its moments."""
    return list(private_attribute(layer, "_reduction_axes", "sync_batch_norm"))


def input_operations(operation: Any) -> list[Any]:
    """Return the operations whose outputs an operation of a functional model takes."""
    return [
        private_attribute(tensor, "_keras_history", _GRAPH).operation
        for node in private_attribute(operation, "_inbound_nodes", _GRAPH)
        for tensor in node.input_tensors
    ]


def graph_constants(layer: Any) -> list[Any]:
    """Return the attributes and arguments of a functional model's operations, without its tensors.

    Any layer but a functional model has none.
    """
    found: list[Any] = []
    for operation in getattr(layer, "operations", ()):
        if not isinstance(operation, keras.Layer):
            found += vars(operation).values()
        for node in private_attribute(operation, "_inbound_nodes", _GRAPH):
            found += keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    return [each for each in found if not isinstance(each, keras.KerasTensor)]


def output_operations(operation: Any) -> list[Any]:
    """Return the operations that take an output of an operation of a functional model."""
    return [each.operation for each in private_attribute(operation, "_outbound_nodes", _GRAPH)]


def is_frame_of_operation(frame: FrameType) -> bool:
    """Check that a frame runs the call of a Keras operation itself."""
    return frame.f_globals.get("__name__") == "keras.src.ops.operation"


def registered_gradients() -> dict[str, Any]:
    """Return TensorFlow's registry of gradients by name, `tf.custom_gradient`'s among them."""
    ops = importlib.import_module("tensorflow.python.framework.ops")
    purpose = "the memory of ended trials"
    registry = private_attribute(ops, "gradient_registry", purpose)
    registered: dict[str, Any] = private_attribute(registry, "_registry", purpose)
    return registered
