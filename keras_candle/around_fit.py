"""Wrap `keras.Model.fit`, so that a CandleCallback can run around it.

A callback alone sees neither the remaining callbacks nor the data.
`model.fit(x, y, callbacks=[candle.CandleCallback(...)])` looks `fit` up before it creates the
CandleCallback, so `fit` is wrapped as soon as Keras is imported.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

from keras_candle.when_imported import when_imported


def prepare() -> None:
    """Wrap `keras.Model.fit` when Keras is imported."""
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
