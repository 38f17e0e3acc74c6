"""Gradient transforms: applied between the backward pass and the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.keras_private.optimizers import optimized_variables
from keras_candle.training.fixed_lookups import Lookup, parts_of, sum_over_ranks
from keras_candle.training.step_context import StepContext

# (gradients, variables) -> gradients. A gradient is a tensor, a tf.IndexedSlices or None.
Transform = Callable[[list[Any], Sequence[Any]], list[Any]]


def transform_gradients(optimizer: Any, *transforms: Transform) -> None:
    """Apply transforms to an optimizer's gradients before the optimizer uses them.

    It replaces `apply` on the instance: the class stays as it is, so that pickle, saving and
    registered optimizers keep working. A second call replaces the transforms of the first. A
    copied optimizer is a plain one again.

    Args:
        optimizer: the outermost keras optimizer. Inside a `LossScaleOptimizer`, a collective
            would be in a branch that only some ranks take.
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
            # Up to Keras 3.11 a LossScaleOptimizer does not keep the variables itself.
            variables = [
                v for leaf in leaf_optimizers(optimizer) for v in optimized_variables(leaf)
            ]
        gradients = list(grads)
        for transform in transforms:
            gradients = transform(gradients, list(variables))
        return previous(gradients, trainable_variables)

    apply.candle_plain = previous  # type: ignore[attr-defined]
    optimizer.apply = apply


def outermost_optimizers(model: Any) -> list[Any]:
    """Return the optimizers that a model's training calls: `compile`'s and its attributes.

    Args:
        model: a keras model; lists, tuples and dicts in its attributes are searched too.

    Returns:
        The optimizers in a fixed order, without wrapped ones.
    """
    found = {id(each): each for each in _optimizers_in(vars(model))}
    inner = {id(each) for optimizer in found.values() for each in wrapped_optimizers(optimizer)}
    return [optimizer for key, optimizer in found.items() if key not in inner]


def wrapped_optimizers(optimizer: Any) -> list[Any]:
    """Return the optimizers to which this one passes its gradients."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return [optimizer.inner_optimizer]
    return list(getattr(optimizer, "optimizers", ()))  # MultiOptimizer, since Keras 3.15


def leaf_optimizers(optimizer: Any) -> list[Any]:
    """Return the optimizers that update variables: the optimizer itself, or those it wraps."""
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
    engine: Engine,
    name: str,
    step: StepContext,
    compression: str | None = None,
    adds_up_rows: bool = False,
) -> Transform:
    """Return the transform that averages gradients over the ranks, weighted by rows.

    It makes data-parallel training equal to training on the global batch. Each rank's gradient is
    the mean over its own rows, so the average is sum(rows * gradient) / sum(rows). Where the last
    batch of an epoch is ragged, that is the mean over the global batch, and a rank without rows
    adds nothing, not even a NaN.

    Args:
        engine: connects the ranks.
        name: unique among the model's optimizers, and the same on all ranks.
        step: the context of the step that is being traced; without known rows all ranks have
            equal weight.
        compression: None or "fp16", the dtype in which dense gradients travel.
        adds_up_rows: whether a sparse gradient may become a dense one, where that is smaller;
            see `adds_up_rows`.

    Returns:
        The transform.
    """
    import tensorflow as tf

    def transform(gradients: list[Any], variables: Sequence[Any]) -> list[Any]:
        step.record_averaged(gradients, variables)
        weight = _weight(step, engine.size)
        multiply = tf.math.multiply_no_nan if step.may_be_empty else tf.multiply
        averaged = list(gradients)
        sparse = [
            i
            for i, (gradient, variable) in enumerate(zip(gradients, variables, strict=True))
            if isinstance(gradient, tf.IndexedSlices)
            and not (adds_up_rows and _dense_is_smaller(variable, engine.size, step))
        ]
        dense = [i for i, each in enumerate(gradients) if each is not None and i not in sparse]
        for i in dense:
            gradient = tf.convert_to_tensor(gradients[i])
            averaged[i] = multiply(gradient, tf.cast(weight, gradient.dtype))
        *summed, total = send_dense(
            engine, [*(averaged[i] for i in dense), weight], name, compression
        )
        for i, tensor in zip(dense, summed, strict=True):
            averaged[i] = tensor / tf.cast(total, tensor.dtype)
        parts = {i: parts_of(gradients[i], step.lookups.get(id(variables[i]))) for i in sparse}
        sent = [
            tensor
            for own in parts.values()
            for each in own
            for tensor in (
                multiply(each.values, tf.cast(weight / total, each.values.dtype)),
                each.indices,
            )
        ]
        received = iter(engine.concat_tensors(sent, name=name) if sent else ())
        for i, own in parts.items():
            merged = [
                (values, indices)
                if each.lookup is Lookup.BATCH
                else sum_over_ranks(values, indices, each, engine.size)
                for each, values, indices in zip(own, received, received, strict=False)
            ]
            values, indices = (tf.concat(each, 0) for each in zip(*merged, strict=True))
            averaged[i] = tf.IndexedSlices(values, indices, gradients[i].dense_shape)
        return averaged

    return transform


def adds_up_rows(optimizer: Any) -> bool:
    """Whether an optimizer treats a row's slices as it treats their sum.

    With TensorFlow, Keras does not add up the slices of a row that a batch looks up twice: Adam,
    for example, adds up their squares. N ranks equal one rank only if that stays so. A sparse
    gradient may therefore become dense only where it makes no difference: in plain SGD, and where
    gradient accumulation makes it dense anyway.
    """
    return all(
        leaf.gradient_accumulation_steps
        or (
            isinstance(leaf, keras.optimizers.SGD)
            and not (leaf.clipnorm or leaf.global_clipnorm or leaf.clipvalue)
        )
        for leaf in leaf_optimizers(optimizer)
    )


def _weight(step: StepContext, size: int) -> Any:
    """This rank's weight in the average, about 1 / size: 16-bit sums must not overflow."""
    import tensorflow as tf

    rows = step.rows_expected if step.rows is None else step.rows
    return tf.cast(rows, tf.float32) / (size * step.rows_expected)


def send_dense(
    engine: Engine, tensors: Sequence[Any], name: str, compression: str | None
) -> list[Any]:
    """Sum dense tensors over the ranks in one collective; scalars are not compressed."""
    import tensorflow as tf

    dense = [tf.convert_to_tensor(each) for each in tensors]
    small = compression == "fp16"
    sent = [tf.cast(each, tf.float16) if small and each.shape.rank else each for each in dense]
    summed = engine.sum_tensors(sent, name=name)
    return [tf.cast(total, each.dtype) for total, each in zip(summed, dense, strict=True)]


def _dense_is_smaller(variable: Any, size: int, step: StepContext) -> bool:
    """Whether the dense gradient is smaller than about half of all ranks' slices together.

    It uses only numbers on which all ranks agree. The actual number of slices differs by rank: a
    rank's last batch may have another shape, and then it alone traces the step anew.
    """
    return bool(size * step.lookups_expected >= variable.shape[0] / 2)
