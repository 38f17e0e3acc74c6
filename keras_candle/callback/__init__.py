"""CandleCallback: checkpoints and exact resume for `fit`."""

from keras_candle.callback.candle_callback import CandleCallback
from keras_candle.resume.checkpoint_schedule import Checkpoint

__all__ = ["CandleCallback", "Checkpoint"]
