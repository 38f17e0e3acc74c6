"""Trackers of a run's metrics: a CSV file, TensorBoard, Weights & Biases, MLflow, your own.

They are fed from the journal of the run directory. A tracker reports the last step that it holds
and gets the journal's rows after that step: no row is missing and none is duplicated, however often
the run was killed. No tracker runs in the training's thread; third-party packages run in a separate
process.
"""

from keras_candle.trackers.base import TrackedRun, Tracker

__all__ = ["TrackedRun", "Tracker"]
