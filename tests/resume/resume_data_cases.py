"""PyDatasets that change themselves, in each of the places where they may."""

from __future__ import annotations

import keras
import numpy as np


class Augmenter:
    def __init__(self):
        self.rng, self.calls = np.random.default_rng(11), 0
        self.layer = keras.layers.GaussianNoise(0.1, seed=5)

    def __call__(self, x):
        self.calls += 1
        return x + 0.1 * self.rng.normal(size=x.shape) + 0.01 * self.calls


class Batches(keras.utils.PyDataset):
    """Of eight rows each."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y, self.order = x, y, np.arange(len(x))
        self.rng = np.random.RandomState(3)
        self.augmenters = [Augmenter()]

    def __len__(self):
        return 4

    def __getitem__(self, number):
        rows = self.order[8 * number : 8 * number + 8]
        return self.x[rows], self.y[rows]


class Reshuffling(Batches):
    def on_epoch_end(self):
        self.rng.shuffle(self.order)


class Beginning(Batches):
    def on_epoch_begin(self):
        self.rng.shuffle(self.order)


class Augmenting(Reshuffling):
    """Draws while it is read."""

    def __getitem__(self, number):
        x, y = super().__getitem__(number)
        return self.augmenters[0](x).astype("float32"), y


class WithProtocol(Reshuffling):
    def get_state(self):
        return {"order": self.order, "drawn": self.rng.get_state()}

    def set_state(self, state):
        self.order = state["order"]
        self.rng.set_state(state["drawn"])


def augmenting_by_layer():
    """A generator that is only in a closure."""
    seed = keras.random.SeedGenerator(4)

    def augment(x):
        return x + 0.1 * np.array(keras.random.normal(x.shape, seed=seed))

    return augment


class ByFunction(Batches):
    def __init__(self, x, y):
        super().__init__(x, y)
        self.augment = augmenting_by_layer()

    def __getitem__(self, number):
        x, y = super().__getitem__(number)
        return self.augment(x).astype("float32"), y


ALL = {
    each.__name__: each for each in (Reshuffling, Beginning, Augmenting, WithProtocol, ByFunction)
}
