"""Save and restore all variables that a training step changes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_candle.keras_private.models import global_seed_generator, layers_of, seed_generators
from keras_candle.training.gradients import outermost_optimizers


class State:
    """A copy of a model's variables, taken when it is made.

    Args:
        model: a compiled and built Keras model.
    """

    def __init__(self, model: Any) -> None:
        variables = [*model.variables]
        variables += [each for metric in model.metrics for each in metric.variables]
        variables += [each for opt in outermost_optimizers(model) for each in opt.variables]
        variables += [each.state for each in _generators(model)]
        unique = {id(variable): variable for variable in variables}
        self._values = [
            (variable, np.copy(keras.ops.convert_to_numpy(variable)))
            for variable in unique.values()
        ]

    def restore(self) -> None:
        """Assign the saved values to the variables."""
        for variable, value in self._values:
            variable.assign(value)


def _generators(model: Any) -> list[Any]:
    """The random generators in layers, and Keras's global one."""
    found = [each for layer in layers_of(model) for each in seed_generators(layer)]
    common = global_seed_generator()
    return found if common is None else [*found, common]
