"""Architecture search: blocks and cells as hyperparameters.

The names below are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_candle.search.nas.blocks import attention_block as attention_block
    from keras_candle.search.nas.blocks import conv_block as conv_block
    from keras_candle.search.nas.blocks import dense_block as dense_block
    from keras_candle.search.nas.blocks import text_block as text_block
    from keras_candle.search.nas.cells import conv_cell as conv_cell
    from keras_candle.search.nas.cells import dense_cell as dense_cell
    from keras_candle.search.nas.cells import pooling as pooling
    from keras_candle.search.nas.cells import stack as stack
    from keras_candle.search.nas.cells import text_cell as text_cell
    from keras_candle.search.nas.cells import text_cnn as text_cnn

_HERE = "keras_candle.search.nas"
# public name -> the module that has it
_HOMES = {
    **dict.fromkeys(("attention_block", "conv_block", "dense_block", "text_block"), "blocks"),
    **dict.fromkeys(
        ("conv_cell", "dense_cell", "pooling", "stack", "text_cell", "text_cnn"), "cells"
    ),
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the keys are strings


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{_HERE}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {_HERE!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
