"""Cut training short, and record its models, data, callbacks and optimizers."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from keras_candle.lint.dry_run.journal import FactLog

_STEPS = 2
_BATCH_HOOKS = tuple(
    f"on_{what}batch_{when}" for what in ("", "train_") for when in ("begin", "end")
)
_OURS = ("keras", "keras_candle", "keras_tuner")


def watch_training(keras: ModuleType, journal: FactLog) -> None:
    """Patch Keras's classes, in a process that exists for one dry run.

    Args:
        keras: the module, imported by the script.
        journal: gets the facts.
    """
    hooks = _TrainingHooks(keras, journal)
    for name in ("fit", "evaluate", "train_on_batch", "compile"):
        replace_method(keras.Model, name, getattr(hooks, name))
    replace_method(keras.optimizers.Optimizer, "apply", hooks.apply)


def replace_method(owner: type, name: str, around: Callable[..., Any]) -> None:
    """Replace a method by `around(plain, self, ...)` in the class that defines it."""
    definer = next(each for each in owner.__mro__ if name in vars(each))
    plain = vars(definer)[name]

    @functools.wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(plain, self, *args, **kwargs)

    setattr(definer, name, method)


class _TrainingHooks:
    def __init__(self, keras: ModuleType, journal: FactLog) -> None:
        self._keras, self._journal = keras, journal
        self._training = False
        self._compiled: list[Any] = []

    def compile(self, plain: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        done = plain(model, *args, **kwargs)
        self._compiled.append(getattr(model, "optimizer", None))
        return done

    def fit(self, plain: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        given = _arguments(plain, model, args, kwargs)
        fact = {"method": "fit", **self._describe(given)}
        lines = self._journal.lines()
        self._record_callbacks(given["callbacks"])
        given["epochs"] = min(given["epochs"], given["initial_epoch"] + 1)
        for name in ("steps_per_epoch", "validation_steps"):
            given[name] = min(given[name] or _STEPS, _STEPS)
        if given["validation_data"] is None and not given["validation_split"]:
            given["validation_steps"] = None
        try:
            with self._inside():
                return plain(**given)
        finally:
            self._journal.write("fit", lines, **fact, model=_structure(model))

    def evaluate(self, plain: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        if self._training:
            return plain(model, *args, **kwargs)
        given = _arguments(plain, model, args, kwargs)
        given["steps"] = min(given["steps"] or _STEPS, _STEPS)
        return plain(**given)

    def train_on_batch(
        self, plain: Callable[..., Any], model: Any, *args: Any, **kwargs: Any
    ) -> Any:
        self._journal.write("trained", self._journal.lines())
        with self._inside():
            return plain(model, *args, **kwargs)

    def apply(self, plain: Callable[..., Any], optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._training:
            compiled = any(_contains(each, optimizer) for each in self._compiled)
            name = type(optimizer).__name__
            self._journal.write("applied", self._journal.lines(), name=name, compiled=compiled)
        return plain(optimizer, *args, **kwargs)

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        before, self._training = self._training, True
        try:
            yield
        finally:
            self._training = before

    def _record_callbacks(self, callbacks: Any) -> None:
        listed = getattr(callbacks, "callbacks", None) or self._keras.tree.flatten(callbacks or [])
        plain = self._keras.callbacks.Callback
        for each in listed:
            owner = type(each)
            if owner.__module__.partition(".")[0] in _OURS:
                continue
            hooks = [
                name for name in _BATCH_HOOKS if getattr(owner, name) is not getattr(plain, name)
            ]
            if hooks:
                code = getattr(getattr(owner, hooks[0]), "__code__", None)
                where = []
                if code is not None and self._journal.is_own(code.co_filename):
                    where = [(code.co_filename, code.co_firstlineno)]
                self._journal.write("callback", where, name=owner.__name__, hooks=hooks)

    def _describe(self, given: dict[str, Any]) -> dict[str, Any]:
        """Describe the data of fit: their kind, a fingerprint, and if the order is unseeded."""
        held_out = given["validation_data"]
        parts = [given["x"], given["y"], given["sample_weight"]]
        parts += held_out if isinstance(held_out, tuple | list) else [held_out]
        return {
            "data": _kind(given["x"]),
            "fingerprint": [line for part in parts for line in _fingerprint(part)],
            "unseeded": _is_unseeded(given["x"]),
        }


def _arguments(
    plain: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    bound = inspect.signature(plain).bind(model, *args, **kwargs)
    bound.apply_defaults()
    given = dict(bound.arguments)
    given |= given.pop("kwargs", {})
    return given


def _kind(data: Any) -> str:
    return "generator" if inspect.isgenerator(data) else type(data).__name__


def _fingerprint(data: Any) -> list[str]:
    """Return checksums of arrays, also of those that a tf.data.Dataset was made from."""
    import tensorflow as tf

    from keras_candle.data.fingerprint import fingerprint
    from keras_candle.keras_private.data import dataset_arrays

    if data is None or inspect.isgenerator(data):
        return []
    if isinstance(data, tf.data.Dataset):
        arrays = [dataset_arrays(each) for each in _with_inputs(data)]
        return [line for each in arrays if each is not None for line in _fingerprint(each)]
    try:
        return fingerprint(data)
    except Exception:  # a PyDataset, a data loader or the like: the script itself continues
        return []


def _with_inputs(dataset: Any) -> list[Any]:
    """Return a tf.data.Dataset and all datasets that it is made from."""
    from keras_candle.keras_private.data import dataset_inputs

    further = [each for source in dataset_inputs(dataset) for each in _with_inputs(source)]
    return [dataset, *further]


def _is_unseeded(data: Any) -> bool:
    """Return whether data are a tf.data.Dataset whose order differs by rank."""
    import tensorflow as tf

    from keras_candle.data.tf_dataset import check_dataset, is_sharded_by_user
    from keras_candle.errors import DataError

    if not isinstance(data, tf.data.Dataset) or is_sharded_by_user(data):
        return False
    try:
        check_dataset(data)
    except DataError:
        return True
    return False


def _structure(model: Any) -> list[str]:
    return [f"{each.dtype} {tuple(each.shape)}" for each in model.weights]


def _contains(outer: Any, optimizer: Any) -> bool:
    while outer is not None and outer is not optimizer:
        outer = getattr(outer, "inner_optimizer", None)
    return outer is not None
