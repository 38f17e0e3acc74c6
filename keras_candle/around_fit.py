"""Lets a CandleCallback be around `fit`, whose other callbacks and data it could not see.

`model.fit(x, y, callbacks=[candle.CandleCallback(...)])` looks `fit` up before it looks at
CandleCallback: the method has to be ours as soon as there is a Keras.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

from keras_candle.when_imported import when_imported


def prepare() -> None:
    """Put ourselves around `keras.Model.fit`, once there is one."""
    when_imported("keras", _put_around_fit)


def _put_around_fit(keras: ModuleType) -> None:
    plain = keras.Model.fit

    @functools.wraps(plain)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        ours = sys.modules.get("keras_candle.callback.candle_callback")
        if ours is None:
            return plain(self, *args, **kwargs)
        return ours.fit(plain, self, *args, **kwargs)

    keras.Model.fit = fit
