"""The gradient's way: transforms between the backward pass and the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.training.step import Step

# (gradients, variables) -> gradients. A gradient is a tensor, a tf.IndexedSlices or None.
Transform = Callable[[list[Any], Sequence[Any]], list[Any]]


def transform_gradients(optimizer: Any, *transforms: Transform) -> None:
    """Put transforms before everything that an optimizer does with its gradients.

    `apply` is replaced on the instance: the class stays as it is, so that pickle, saving and
    registered optimizers keep working. A second call replaces the transforms of the first. A
    copied optimizer is a plain one again.

    Args:
        optimizer: the outermost keras optimizer. Inside a `LossScaleOptimizer`, a collective
            would sit in a branch that only some ranks take.
        *transforms: called in order with (gradients, variables); each returns the gradients.

    Example:
        >>> import keras
        >>> optimizer = keras.optimizers.SGD(1.0)
        >>> transform_gradients(optimizer, lambda gradients, _: [2 * g for g in gradients])
        >>> weight = keras.Variable(10.0)
        >>> optimizer.apply([keras.ops.convert_to_tensor(3.0)], [weight])
        >>> float(weight)
        4.0
    """
    previous = getattr(optimizer.apply, "candle_plain", optimizer.apply)

    def apply(grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> Any:
        variables = trainable_variables
        if variables is None:
            variables = optimizer._trainable_variables
        gradients = list(grads)
        for transform in transforms:
            gradients = transform(gradients, list(variables))
        return previous(gradients, trainable_variables)

    apply.candle_plain = previous  # type: ignore[attr-defined]
    optimizer.apply = apply


def outermost_optimizers(model: Any) -> list[Any]:
    """The optimizers that a model's training calls: `compile`'s and those it keeps as attributes.

    Args:
        model: a keras model; lists, tuples and dicts in its attributes are searched too.

    Returns:
        The optimizers in a fixed order, without those that another one wraps.
    """
    found = {id(each): each for each in _optimizers_in(vars(model))}
    inner = {id(each) for optimizer in found.values() for each in wrapped_optimizers(optimizer)}
    return [optimizer for key, optimizer in found.items() if key not in inner]


def wrapped_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers that this one hands its gradients to."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return [optimizer.inner_optimizer]
    return list(getattr(optimizer, "optimizers", ()))  # MultiOptimizer, since Keras 3.15


def leaf_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers that update variables: the optimizer itself, or those that it wraps."""
    inner = wrapped_optimizers(optimizer)
    return [leaf for each in inner for leaf in leaf_optimizers(each)] or [optimizer]


def _optimizers_in(attributes: Any) -> Iterator[Any]:
    values = attributes.values() if hasattr(attributes, "values") else attributes
    for value in values:
        if isinstance(value, keras.optimizers.Optimizer):
            yield value
        elif isinstance(value, dict | list | tuple):
            yield from _optimizers_in(value)


def average_over_ranks(
    engine: Engine, name: str, step: Step, compression: str | None = None
) -> Transform:
    """The transform that makes data-parallel training equal to training on the whole batch.

    Each rank's gradient is the mean over its own rows, so ranks count by their rows:
    sum(rows * gradient) / sum(rows). Where the last batch of an epoch is ragged, that is the
    mean over the global batch, and a rank without rows adds nothing, not even a NaN.

    Args:
        engine: connects the ranks.
        name: unique among the model's optimizers, and the same on all ranks.
        step: this rank's share of the step that is being traced; without known rows all ranks
            count alike.
        compression: None or "fp16", the dtype in which dense gradients travel.

    Returns:
        The transform. A sparse gradient stays sparse unless the dense one is smaller.
    """
    import tensorflow as tf

    def transform(gradients: list[Any], variables: Sequence[Any]) -> list[Any]:
        weight = _weight(step, engine.size)
        weighted = [_weigh(gradient, weight, step.may_be_empty) for gradient in gradients]
        sparse = [
            i
            for i, (gradient, variable) in enumerate(zip(weighted, variables, strict=True))
            if isinstance(gradient, tf.IndexedSlices)
            and _stays_sparse(gradient, variable, engine.size, step)
        ]
        dense = [i for i, g in enumerate(weighted) if g is not None and i not in sparse]
        for i in dense:
            weighted[i] = tf.convert_to_tensor(weighted[i])
        sent = [_compress(weighted[i], compression) for i in dense]
        *summed, total = engine.sum_tensors([*sent, weight], name=name)
        for i, tensor in zip(dense, summed, strict=True):
            weighted[i] = tf.cast(tensor, weighted[i].dtype)
        # values and indices one after the other, for each sparse gradient
        parts = [part for i in sparse for part in (weighted[i].values, weighted[i].indices)]
        whole = iter(engine.concat_tensors(parts, name=name) if parts else ())
        for i in sparse:
            weighted[i] = tf.IndexedSlices(next(whole), next(whole), weighted[i].dense_shape)
        return [_on_values(g, lambda x: x / tf.cast(total, x.dtype)) for g in weighted]

    return transform


def _weight(step: Step, size: int) -> Any:
    """This rank's weight in the average, about 1 / size: 16-bit sums must not overflow."""
    import tensorflow as tf

    rows = step.rows_expected if step.rows is None else step.rows
    return tf.cast(rows, tf.float32) / (size * step.rows_expected)


def _weigh(gradient: Any, weight: Any, may_be_zero: bool) -> Any:
    import tensorflow as tf

    multiply = tf.math.multiply_no_nan if may_be_zero else tf.multiply
    return _on_values(gradient, lambda x: multiply(x, tf.cast(weight, x.dtype)))


def _on_values(gradient: Any, function: Callable[[Any], Any]) -> Any:
    import tensorflow as tf

    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(function(gradient.values), gradient.indices, gradient.dense_shape)
    return function(gradient)


def _compress(tensor: Any, compression: str | None) -> Any:
    import tensorflow as tf

    return tf.cast(tensor, tf.float16) if compression == "fp16" else tensor


def _stays_sparse(slices: Any, variable: Any, size: int, step: Step) -> bool:
    """Whether all ranks' slices together are well below the rows of the dense gradient.

    The number of slices may be known only when the step runs, but the ranks have to agree when
    it is traced: then it is taken from the batch's shape.
    """
    slices_of_rank = slices.values.shape[0] or step.lookups_expected
    return bool(size * slices_of_rank < variable.shape[0] / 2)
