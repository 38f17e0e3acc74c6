"""Run one training step in a precision, record its outputs and gradients, and restore the model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_candle.keras_private.optimizers import optimized_variables
from keras_candle.precision_audit.layers import FLOAT16, Part, recorded_by
from keras_candle.precision_audit.outputs import Array, Counts, OutputWatch, count, reference_of
from keras_candle.precision_audit.switching import (
    FIRST_SCALE,
    loss_scaling,
    optimizer_in,
    switched,
    unwrapped,
)
from keras_candle.verification.trial_step import (
    State,
    intercept_gradients,
    one_line,
    without_noise,
)

# Relative to a layer's largest gradient. float32 rounds to 6e-8 of a number; sums of many such
# errors are compared with sums that cancel for the greater part.
_NOISE = 1e-4


@dataclass
class AuditStep:
    """The record of one batch's step in a precision.

    Attributes:
        precision: one of `layers.PRECISIONS`.
        outputs: the counts of the layers' outputs.
        gradients: by the path of the variable, as the optimizer gets them: scaled.
        counts: of the gradients, against those in float32.
        scale: the loss scale; 1 where the loss is not scaled.
        is_scaled: False where the step's own code does not scale the loss, and the optimizer
            expects it.
        losses: the losses that the step returns, by name.
        error: the error on one line; "" when the step succeeded.
    """

    precision: str
    outputs: OutputWatch
    gradients: dict[str, Array] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    scale: float = 1.0
    is_scaled: bool = True
    losses: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def has_finite_gradients(self) -> bool:
        """Whether all gradients are finite, so that Keras would apply them."""
        return not any(each.infinite + each.nan for each in self.counts.values())

    def rounding(self) -> set[str]:
        """Return the paths of variables whose gradients are only rounding.

        A bias before batch normalisation, or that of an attention's keys, has no effect: compared
        with its kernel's gradient its own is 0.
        """
        sizes = {
            path: float(np.max(np.abs(each), initial=0)) for path, each in self.gradients.items()
        }
        largest: dict[str, float] = {}
        for path, size in sizes.items():
            layer = path.rpartition("/")[0]
            largest[layer] = max(size, largest.get(layer, 0.0))
        return {
            path for path, size in sizes.items() if size < _NOISE * largest[path.rpartition("/")[0]]
        }

    def keep(self, optimizer: Any, gradients: Any, variables: Any) -> None:
        """Keep the gradients that an optimizer gets; of a sparse gradient the slices."""
        if variables is None:
            variables = optimized_variables(unwrapped(optimizer))
        for gradient, variable in zip(gradients, variables, strict=True):
            if gradient is not None:
                values = keras.ops.cast(getattr(gradient, "values", gradient), "float32")
                self.gradients[variable.path] = keras.ops.convert_to_numpy(values)


@dataclass
class Bench:
    """A model and a batch, on which steps run in each precision.

    Attributes:
        model: a compiled and built model.
        batch: the argument of a step.
        parts: the parts of the model.
        state: the model's initial state.
    """

    model: Any
    batch: Any
    parts: Sequence[Part]
    state: State

    def step(
        self,
        precision: str,
        pins: Collection[str] = (),
        exact: AuditStep | None = None,
        scale: float = FIRST_SCALE,
    ) -> AuditStep:
        """Run the batch's step in a precision; halve the loss scale until gradients are finite.

        Args:
            precision: one of `layers.PRECISIONS`.
            pins: names of parts that compute in float32.
            exact: the step in float32.
            scale: the initial loss scale.
        """
        while True:
            done = self._step(precision, pins, exact, scale)
            forward = any(each.begins for each in done.outputs.outputs.values())
            if done.has_finite_gradients or forward or done.scale <= 1.0:
                return done
            scale /= 2

    def _step(
        self, precision: str, pins: Collection[str], exact: AuditStep | None, scale: float
    ) -> AuditStep:
        watch = OutputWatch(self.parts, None if exact is None else exact.outputs)
        done = AuditStep(precision, watch)
        self.state.restore()
        with ExitStack() as around:
            around.enter_context(without_noise(self.model))
            around.enter_context(switched(self.parts, precision, pins))
            around.enter_context(_optimizer_for(self.model, precision, scale, done))
            around.enter_context(intercept_gradients(done.keep))
            around.enter_context(recorded_by(watch))
            try:
                logs = self.model.train_step(self.batch)
                done.losses = losses_in(logs)
            except Exception as error:  # any error of the user's layers in this precision
                done.error = one_line(error)
        self.state.restore()
        dtype = "float16" if precision == FLOAT16 else "bfloat16"
        rounding = set() if exact is None else exact.rounding()
        for path, gradient in done.gradients.items():
            in_float32 = None if exact is None else exact.gradients.get(path)
            reference = None if in_float32 is None else reference_of(in_float32, done.scale)
            counts = count(gradient, dtype, reference)
            done.counts[path] = replace(counts, underflow=0) if path in rounding else counts
        return done


def scalars_in(logs: Any) -> dict[str, float]:
    """Return the scalars that a step returns, by name."""
    return {
        name: float(keras.ops.convert_to_numpy(value))
        for name, value in (logs.items() if isinstance(logs, dict) else ())
        if keras.ops.ndim(value) == 0
    }


def losses_in(logs: Any) -> dict[str, float]:
    """Return the losses among the scalars that a step returns, by name."""
    return {name: value for name, value in scalars_in(logs).items() if "loss" in name}


@contextmanager
def _optimizer_for(model: Any, precision: str, scale: float, done: AuditStep) -> Iterator[None]:
    """The optimizer that `compile` would have made in a precision; records the loss scale."""
    scaling = loss_scaling(model, scale) if precision == FLOAT16 else None
    if scaling is not None:
        plain = scaling.scale_loss
        done.is_scaled = False

        def scale_loss(loss: Any) -> Any:
            done.scale, done.is_scaled = scale, True
            return plain(loss)

        scaling.scale_loss = scale_loss
    with optimizer_in(model, scaling):
        yield
