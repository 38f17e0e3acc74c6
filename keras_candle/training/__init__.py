"""Data-parallel training: hooks into a Keras model's steps, optimizers, losses and metrics."""
