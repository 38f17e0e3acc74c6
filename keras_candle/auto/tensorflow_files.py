"""Write TensorFlow's checkpoints and summaries, which bypass Python's files, on the root only."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from keras_candle.auto.files import is_private
from keras_candle.auto.keras_files import run_on_root


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
