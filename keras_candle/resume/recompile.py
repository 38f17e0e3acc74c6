"""A model that a callback compiles again during a fit: recorded, and repeated on a resume."""

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

_COMPILED = (
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
)


class CompileRecorder:
    """Notices when a model is compiled during a fit, and which of its layers are trained.

    Args:
        model: that is trained.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._compiled = model, False
        self._of_instance: Any = None

    def start(self, *, compiled: bool) -> None:
        """Begin to notice; `compiled`: whether it had been compiled again before a checkpoint."""
        model, plain = self._model, self._model.compile
        self._compiled, self._of_instance = compiled, vars(model).get("compile")

        @functools.wraps(plain)
        def compile_again(*args: Any, **kwargs: Any) -> Any:
            self._compiled = True
            return plain(*args, **kwargs)

        # Past Keras's own bookkeeping of attributes.
        object.__setattr__(model, "compile", compile_again)

    def stop(self) -> None:
        """End that."""
        if self._of_instance is not None:
            object.__setattr__(self._model, "compile", self._of_instance)
        else:
            vars(self._model).pop("compile", None)

    def state(self) -> dict[str, Any]:
        """What is to be repeated on a resume, as plain values."""
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
                obstacle = f"what it was compiled with cannot be saved ({cause})"
        return {"trained": trained, "arguments": arguments, "obstacle": obstacle}


def repeat_compile(model: Any, recorded: Mapping[str, Any], folder: str) -> bool:
    """Let a model train those layers, compiled with those arguments, that a checkpoint's had.

    Args:
        model: as the script compiled it.
        recorded: what `CompileRecorder.state` returned.
        folder: the checkpoint, for messages.

    Returns:
        Whether the model was compiled.

    Raises:
        CheckpointError: when it cannot be compiled so.
    """
    for layer, trained in zip(layers_of(model), recorded["trained"], strict=True):
        if layer.trainable != trained:  # a layer's own come after it
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
            "keras.saving.register_keras_serializable, or compile the model so before fit."
        ) from cause
    model.train_function = None
    return True


def _described(model: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lambdas: the script's own is taken
        config: dict[str, Any] = model.get_compile_config()
    return config


def _arguments(model: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of compile: the script's own where they are the same, else new ones."""
    own, described = compile_arguments(model), json.loads(json.dumps(_described(model)))
    classes = dict(_classes_in(config))
    return {
        name: own[name]
        if name != "optimizer" and described.get(name) == value
        else keras.saving.deserialize_keras_object(value, custom_objects=classes)
        for name, value in config.items()
    }


def _classes_in(config: Any) -> Iterator[tuple[str, type]]:
    """The script's own classes of a configuration, of modules that are imported already."""
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
