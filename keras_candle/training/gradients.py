"""Gradient transforms: applied between the backward pass and the optimizer.

The average over ranks is one of them. Where an optimizer accumulates gradients over several steps,
the ranks communicate once for each update of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_candle import backend
from keras_candle.engine.base import Engine
from keras_candle.keras_private.optimizers import (
    accumulated_gradients,
    iterations_of,
    optimized_variables,
    replace_clipping,
)
from keras_candle.training.step_context import StepContext

# (gradients, variables) -> gradients. A gradient is a tensor, a sparse gradient or None.
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
    sum_slices: bool = False,
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
        sum_slices: whether the slices of one row are added up first, and sparse gradients become
            dense.

    Returns:
        The transform.
    """
    framework = backend.current()

    def transform(gradients: list[Any], variables: Sequence[Any]) -> list[Any]:
        step.record_averaged(gradients, variables)
        weight = _weight(step, engine.size)
        averaged = list(gradients)
        sparse = [
            i
            for i, (gradient, variable) in enumerate(zip(gradients, variables, strict=True))
            if framework.is_sparse(gradient)
            and not (adds_up_rows and _dense_is_smaller(variable, engine.size, step))
        ]
        dense = [i for i, each in enumerate(gradients) if each is not None and i not in sparse]
        for i in dense:
            averaged[i] = framework.weigh(gradients[i], weight, may_be_empty=step.may_be_empty)
        *summed, total = send_dense(
            engine, [*(averaged[i] for i in dense), weight], name, compression
        )
        for i, tensor in zip(dense, summed, strict=True):
            averaged[i] = tensor / ops.cast(total, tensor.dtype)
        if sparse:
            found = framework.average_sparse(
                engine,
                [gradients[i] for i in sparse],
                weight / total,
                name=name,
                may_be_empty=step.may_be_empty,
                lookups=[step.lookups.get(id(variables[i])) for i in sparse],
                sum_slices=sum_slices,
            )
            for i, gradient in zip(sparse, found, strict=True):
                averaged[i] = gradient
        return averaged

    return transform


def sum_slices(gradients: list[Any], _: Sequence[Any]) -> list[Any]:
    """Add up the slices of each row of sparse gradients, which become dense: a `Transform`."""
    framework = backend.current()
    return [framework.to_dense(each) if framework.is_sparse(each) else each for each in gradients]


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
    rows = step.rows_expected if step.rows is None else step.rows
    return ops.cast(rows, "float32") / (size * step.rows_expected)


def send_dense(
    engine: Engine, tensors: Sequence[Any], name: str, compression: str | None
) -> list[Any]:
    """Sum dense tensors over the ranks in one collective; scalars are not compressed."""
    tensors = [ops.convert_to_tensor(each) for each in tensors]
    small = compression == "fp16"
    sent = [ops.cast(each, "float16") if small and len(each.shape) else each for each in tensors]
    summed = backend.current().sum_in_step(engine, sent, name=name)
    return [ops.cast(total, each.dtype) for total, each in zip(summed, tensors, strict=True)]


def _dense_is_smaller(variable: Any, size: int, step: StepContext) -> bool:
    """Whether the dense gradient is smaller than about half of all ranks' slices together.

    It uses only numbers on which all ranks agree. The actual number of slices differs by rank: a
    rank's last batch may have another shape, and then it alone traces the step anew.
    """
    return bool(size * step.lookups_expected >= variable.shape[0] / 2)


def average_accumulated(
    optimizer: Any,
    average: Transform,
    engine: Engine,
    name: str,
    step: StepContext,
    compression: str | None,
) -> Transform:
    """Return the gradient transform for an optimizer that may accumulate over several steps.

    Where a rank knows its fraction of each global batch, it accumulates its own gradients, and the
    allreduce runs when the sum is used. Where it does not, the weight of a batch's rows is known
    only after a collective, and the allreduce runs in every step.

    Args:
        optimizer: an outermost keras optimizer; a second call replaces the hooks of the first.
        average: the transform that averages in every step.
        engine: connects the ranks.
        name: unique among the model's optimizers, and the same on all ranks.
        step: the context of the step that is being traced.
        compression: None or "fp16", the dtype in which gradients travel.

    Returns:
        `average` itself where nothing is accumulated.
    """
    leaves = leaf_optimizers(optimizer)
    if len(leaves) != 1 or not leaves[0].gradient_accumulation_steps:
        return average
    late = _LateAverage(engine, name, compression)
    late.hook(optimizer, leaves[0])

    def transform(gradients: list[Any], variables: Sequence[Any]) -> list[Any]:
        late.is_active = step.knows_total and step.rows is not None
        if not late.is_active:
            return average(gradients, variables)
        step.record_averaged(gradients, variables)
        return [_weighted(each, step, engine.size) for each in gradients]

    return transform


def half_accumulated(optimizers: Sequence[Any]) -> list[Any]:
    """Return the accumulated gradients of updates that are still to come.

    Each rank has accumulated its own. The update uses their mean, so averaging them earlier gives
    the same update.
    """
    return [
        variable
        for optimizer in optimizers
        for leaf in leaf_optimizers(optimizer)
        if leaf.gradient_accumulation_steps and leaf.built
        if int(iterations_of(leaf).numpy()) % leaf.gradient_accumulation_steps
        for variable in accumulated_gradients(leaf)
    ]


class _LateAverage:
    """Averages a leaf optimizer's accumulated gradients, right before they are clipped."""

    def __init__(self, engine: Engine, name: str, compression: str | None) -> None:
        self._engine, self._name, self._compression = engine, name, compression
        self.is_active = False

    def hook(self, optimizer: Any, leaf: Any) -> None:
        replace_clipping(
            leaf, lambda grads: self._average(list(grads)) if self.is_active else grads
        )
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            plain_check = type(optimizer).check_finite
            optimizer.check_finite = lambda grads: self._on_all(plain_check(optimizer, grads))

    def _average(self, gradients: list[Any]) -> list[Any]:
        summed = send_dense(self._engine, gradients, self._name, self._compression)
        return [each / self._engine.size for each in summed]

    def _on_all(self, finite: Any) -> Any:
        """Whether the gradients are finite on every rank: all ranks must skip the same steps."""
        if not self.is_active:
            return finite
        infinite = 1.0 - keras.ops.cast(finite, "float32")
        (ranks,) = backend.current().sum_in_step(
            self._engine, [infinite], name=f"{self._name}.finite"
        )
        return keras.ops.equal(ranks, 0.0)


def _weighted(gradient: Any, step: StepContext, size: int) -> Any:
    """The gradient times `size * rows / total`: its mean over ranks is the global gradient."""
    if gradient is None:
        return None
    rows, total = (keras.ops.cast(each, "float32") for each in (step.rows, step.total))
    return backend.current().weigh(gradient, size * rows / total, may_be_empty=step.may_be_empty)
