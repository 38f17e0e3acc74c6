"""Refuse scripts that are written for Horovod: their gradients would be averaged twice."""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

from keras_candle.errors import EngineError
from keras_candle.when_imported import when_imported

_MODULES = ("horovod.tensorflow", "horovod.tensorflow.keras", "horovod.keras", "horovod.torch")


def refuse_horovod_lines() -> None:
    """Make the script's own `hvd.init()` raise; importing Horovod alone is allowed."""
    for name in _MODULES:
        when_imported(name, _guard)


def _guard(horovod: ModuleType) -> None:
    plain: Any = getattr(horovod, "init", None)
    if plain is None or hasattr(plain, "candle_plain"):
        return

    @functools.wraps(plain)
    def init(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        # Our own engine may be Horovod.
        if not caller.startswith(("keras_candle.", "horovod.")):
            raise EngineError(
                "The script calls hvd.init(): it is written for Horovod and divides its data and "
                "learning rate by itself, so --auto would do it a second time. Run it without "
                "--auto, or remove its Horovod lines."
            )
        return plain(*args, **kwargs)

    init.candle_plain = plain  # type: ignore[attr-defined]
    horovod.init = init  # type: ignore[attr-defined]
