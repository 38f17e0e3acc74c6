"""Where a run's numbers go: a CSV file, TensorBoard, Weights & Biases, MLflow, a user's own place.

The journal of the run directory is what they are fed from. A tracker says up to which step it holds
the run, and gets what stands in the journal behind it: nothing is left out and nothing comes twice,
however often the run was killed. None of them runs in the training's own thread; packages of
others run in a process beside it.
"""

from keras_candle.trackers.base import TrackedRun, Tracker

__all__ = ["TrackedRun", "Tracker"]
