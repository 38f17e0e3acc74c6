"""Save models and checkpoints, and download files, once, on the root, for all ranks."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from keras_candle import engine as engines
from keras_candle.auto.file_overlay import is_private, redirect_reads
from keras_candle.auto.models import defining_class, is_scaled
from keras_candle.errors import EngineError

_METHODS = ("save", "save_weights", "export")
_FUNCTIONS = ("save_model", "save_weights")

_writing = threading.local()


def run_on_root(plain: Callable[[], Any], what: str, path: Any = None) -> Any:
    """Call a function on the root while all ranks wait, and return its result on every rank.

    Args:
        plain: the function, without arguments.
        what: names the work in the error message.
        path: where it writes. A rank whose path differs from the root's (by the time of day,
            say) reads the root's file under its own path.

    Returns:
        The value of plain() on the root; it must be picklable.

    Raises:
        EngineError: on all ranks but the root, when it failed on the root.
    """
    if getattr(_writing, "now", False) or _in_root_only_callback():
        return plain()
    engine = engines.current()
    root_path = engine.broadcast(None if path is None else os.path.abspath(os.fspath(path)))
    problem, result = None, None
    if engine.is_root:
        _writing.now = True
        try:
            result = plain()
        except Exception as cause:
            problem = cause
        finally:
            _writing.now = False
    error, result = engine.broadcast((problem and f"{type(problem).__name__}: {problem}", result))
    if problem is not None:
        raise problem
    if error:
        raise EngineError(f"{what} failed on the root: {error}")
    if path is not None and os.path.abspath(os.fspath(path)) != root_path:
        redirect_reads(path, root_path)
    return result


def _in_root_only_callback() -> bool:
    """Return whether the caller is a callback that writes files, which only the root runs."""
    if "keras" not in sys.modules:
        return False
    from keras_candle.training.user_callbacks import in_writing_callback

    return in_writing_callback()


def save_on_root(keras: ModuleType) -> None:
    """Patch saving of models that are not scaled, Keras's save functions, and downloads."""
    for name in _METHODS:
        owner = defining_class(keras.Model, name)
        setattr(owner, name, _method(getattr(owner, name)))
    for module in (keras.saving, keras.models):
        for name in _FUNCTIONS:
            if hasattr(module, name):
                setattr(module, name, _function(getattr(module, name)))
    _download_once(keras)


def synchronize_saves(model: Any) -> None:
    """Patch a scaled model's save methods to use the root's path, which may differ by rank."""
    for name in _METHODS:
        setattr(model, name, functools.partial(_save, getattr(type(model), name).__get__(model)))


def _method(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def method(self: Any, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        if is_scaled(self):  # its instance's method has run `_save` already
            return plain(self, filepath, *args, **kwargs)
        return _save(functools.partial(plain, self), filepath, *args, **kwargs)

    return method


def _function(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def function(model: Any, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        return _save(functools.partial(plain, model), filepath, *args, **kwargs)

    return function


def _save(plain: Callable[..., Any], filepath: Any, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(filepath, str | os.PathLike) or is_private(filepath):
        return plain(filepath, *args, **kwargs)
    return run_on_root(lambda: plain(filepath, *args, **kwargs), f"saving {filepath}", filepath)


def _download_once(keras: ModuleType) -> None:
    """Download files of keras.utils.get_file on the root first; the ranks then find them."""
    plain = keras.utils.get_file

    @functools.wraps(plain)
    def get_file(*args: Any, **kwargs: Any) -> Any:
        run_on_root(lambda: plain(*args, **kwargs), "keras.utils.get_file")
        return plain(*args, **kwargs)

    for name, module in list(sys.modules.items()):
        if name.startswith("keras.") and getattr(module, "get_file", None) is plain:
            module.get_file = get_file  # type: ignore[attr-defined]


def write_checkpoints_on_root(tensorflow: ModuleType, *, is_root: bool) -> None:
    """Patch checkpoints to be written on the root while all ranks wait, and summaries there too."""
    train, summary = tensorflow.train, tensorflow.summary
    for kind in (train.Checkpoint, train.CheckpointManager):
        for name in filter(functools.partial(hasattr, kind), ("save", "write")):
            setattr(kind, name, _written_on_root(getattr(kind, name)))
    if not is_root:
        summary.create_file_writer = lambda *_, **__: summary.create_noop_writer()


def _written_on_root(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def write(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], str) and is_private(args[0]):
            return plain(self, *args, **kwargs)
        return run_on_root(lambda: plain(self, *args, **kwargs), "a tf.train.Checkpoint")

    return write
