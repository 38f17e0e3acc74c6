"""Record that a callback compiles a model during a fit, and repeat it on a resume."""

from __future__ import annotations

import functools
import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_candle.errors import CheckpointError
from keras_candle.keras_private.models import compile_arguments, layers_of
from keras_candle.training.step_chain import chain_of

_COMPILED = (
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
)


class CompileRecorder:
    """Records whether a model is compiled during a fit, and which of its layers are trainable.

    Args:
        model: the trained model.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._compiled = model, False
        self._of_instance: Any = None

    def start(self, *, compiled: bool) -> None:
        """Begin to record; `compiled` is the value of the checkpoint that is resumed."""
        model, plain = self._model, self._model.compile
        self._compiled, self._of_instance = compiled, vars(model).get("compile")

        @functools.wraps(plain)
        def compile_again(*args: Any, **kwargs: Any) -> Any:
            self._compiled = True
            return plain(*args, **kwargs)

        # object.__setattr__ bypasses Keras's tracking of attributes.
        object.__setattr__(model, "compile", compile_again)

    def stop(self) -> None:
        """End recording and restore `model.compile`."""
        if self._of_instance is not None:
            object.__setattr__(self._model, "compile", self._of_instance)
        else:
            vars(self._model).pop("compile", None)

    def state(self) -> dict[str, Any]:
        """Return the compile arguments and trainable layers to repeat on a resume."""
        trained = [bool(layer.trainable) for layer in layers_of(self._model)]
        if not self._compiled:
            return {"trained": trained, "arguments": None, "obstacle": ""}
        arguments, obstacle = "", ""
        if type(self._model).compile is not keras.Model.compile:
            obstacle = "its class has a compile() of its own"
        else:
            try:
                arguments = json.dumps(_described(self._model))
            except Exception as cause:  # whatever a user's get_config raises
                obstacle = f"its compile arguments cannot be saved ({cause})"
        return {"trained": trained, "arguments": arguments, "obstacle": obstacle}


def repeat_compile(model: Any, recorded: Mapping[str, Any], folder: str) -> bool:
    """Compile a model with a checkpoint's arguments and restore which layers are trainable.

    Args:
        model: the model, as the script compiled it.
        recorded: value of `CompileRecorder.state` at the checkpoint.
        folder: the checkpoint, for messages.

    Returns:
        Whether the model was compiled.

    Raises:
        CheckpointError: when the arguments cannot be restored.
    """
    for layer, trained in zip(layers_of(model), recorded["trained"], strict=True):
        if layer.trainable != trained:  # sublayers come after their layer
            layer.trainable = trained
    if recorded["arguments"] is None:
        return False
    try:
        if recorded["obstacle"]:
            raise ValueError(recorded["obstacle"])
        model.compile(**_arguments(model, json.loads(recorded["arguments"])))
    except Exception as cause:  # whatever a user's from_config raises
        raise CheckpointError(
            f"Cannot resume {folder}: a callback had compiled the model again, which cannot be "
            f"repeated: {cause}. Register its classes and functions with "
            "keras.saving.register_keras_serializable, or compile the model like that before fit."
        ) from cause
    chain_of(model).take()
    return True


def _described(model: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lambdas: the script's own is taken
        config: dict[str, Any] = model.get_compile_config()
    return config


def _arguments(model: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return compile arguments: the script's objects where equal, else new ones."""
    own, described = compile_arguments(model), json.loads(json.dumps(_described(model)))
    classes = dict(_classes_in(config))
    return {
        name: own[name]
        if name != "optimizer" and described.get(name) == value
        else keras.saving.deserialize_keras_object(value, custom_objects=classes)
        for name, value in config.items()
    }


def _classes_in(config: Any) -> Iterator[tuple[str, type]]:
    """Yield the user's classes in a configuration that are imported already."""
    if isinstance(config, list):
        for each in config:
            yield from _classes_in(each)
    elif isinstance(config, dict):
        name = config.get("class_name")
        found = getattr(sys.modules.get(str(config.get("module"))), str(name), None)
        if isinstance(found, type) and issubclass(found, _COMPILED):
            yield str(name), found
        for each in config.values():
            yield from _classes_in(each)
