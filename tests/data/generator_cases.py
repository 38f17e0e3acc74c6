"""PyDatasets that draw from generators of their own, in their hooks and while they load."""

from __future__ import annotations

import random
from functools import partial

import keras
import numpy as np

import keras_candle as candle
from keras_candle import engine as engines
from tests.data.data_cases import Steps, unseed, witnesses
from tests.training.kinds import Rows, seen_in_epochs


class Augmenter:
    """Draws more often for some rows than for others, as rejection sampling does."""

    def __init__(self, draw):
        self.draw = draw

    def __call__(self, rows):
        for row in rows:
            for _ in range(int(row) % 3):
                self.draw()


class SelfShuffled(Rows):
    """Its order and its augmentations come from one generator.

    Args:
        draw: draws a number.
        shuffle: shuffles an array in place.
    """

    def __init__(self, rows, batch_size, draw, shuffle, **workers):
        super().__init__(rows, batch_size, **workers)
        self.augmenters, self.shuffle = [Augmenter(draw)], {"shuffle": shuffle}

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        for each in self.augmenters:
            each(x[:, 0])
        return x, y

    def on_epoch_end(self):
        self.shuffle["shuffle"](self.order)


def by_seed_generator(generator, order):
    order[:] = keras.ops.convert_to_numpy(keras.random.shuffle(order, seed=generator))


def generator_of(kind):
    """(draw, shuffle) of a generator."""
    if kind == "python":
        generator = random.Random(3)  # noqa: S311 - no secret
        return generator.random, generator.shuffle
    if kind == "keras":
        generator = keras.random.SeedGenerator(3)
        return generator.next, partial(by_seed_generator, generator)
    if kind == "RandomState":
        generator = np.random.RandomState(3)
    elif kind == "unseeded":
        generator = np.random.default_rng()
    else:
        generator = np.random.default_rng(3)
    return generator.random, generator.shuffle


def made_in_the_hook(order):
    np.random.default_rng().shuffle(order)


def own_generator(rows, batch_size, epochs, kind, batch="replica", **workers):
    unseed()
    draw, shuffle = generator_of(kind)
    if kind == "made in the hook":
        shuffle = made_in_the_hook
    source = SelfShuffled(rows, batch_size, draw, shuffle, **workers)
    return seen_in_epochs(source, rows, epochs=epochs, shuffle=False, batch=batch)


def drawn_by_rank(order):
    random.Random(engines.current().rank).shuffle(order)  # noqa: S311 - no secret


def fail_on_rank_1(order):
    if engines.current().rank == 1:
        raise KeyError("rows")


def hook(shuffle):
    """A hook by which the ranks would come apart."""
    draw, _ = generator_of("numpy")
    source = SelfShuffled(24, 4, draw, globals()[shuffle])
    seen_in_epochs(source, 24, epochs=2)


class ShuffledByFirst(Rows):
    """Shuffles itself with its first batch, which only one rank loads."""

    def __getitem__(self, index):
        if index == 0:
            np.random.shuffle(self.order)
        return super().__getitem__(index)


def shuffled_by_first():
    seen_in_epochs(ShuffledByFirst(24, 4), 24, epochs=2, shuffle=False)


class Sampled(Rows):
    """Batches are drawn when they are loaded."""

    def __init__(self, rows, batch_size, kind):
        super().__init__(rows, batch_size)
        self.own = np.random.default_rng(3) if kind == "own" else None
        self.drawn = []

    def __getitem__(self, index):
        draw = np.random.randint if self.own is None else self.own.integers
        rows = draw(len(self.x), size=self.batch_size)
        self.drawn.append(rows.tolist())
        return self.x[rows], np.zeros(len(rows), "float32")


def sampled(kind):
    """The rows of the batches that this rank trains on, and what is drawn afterwards."""
    keras.utils.set_random_seed(1)
    source = Sampled(1000, 4, kind)
    model = candle.scale(witnesses(1000), guard=False)
    model.fit(source, verbose=0, steps_per_epoch=20)
    return source.drawn[-10:], np.random.random()


class Shrinking(Rows):
    """Has fewer batches in every epoch."""

    level = 6

    def __len__(self):
        return self.level

    def on_epoch_end(self):
        self.level = max(self.level - 2, 2)


def shrinking():
    """Steps in epochs of 4, 2 and 2 batches: it ends early, as with plain Keras."""
    model = candle.scale(witnesses(24), guard=False)
    steps = Steps()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(Shrinking(24, 4), epochs=3, shuffle=False, verbose=0, callbacks=[steps])
    return steps.steps


class OfOneRank(Rows):
    def __len__(self):
        return 6 - 2 * (engines.current().rank == 1 and len(self.loaded) > 4)


def lengths_that_differ():
    candle.scale(witnesses(24)).fit(OfOneRank(24, 4), epochs=2, shuffle=False, verbose=0)


def validated_by_a_generator(steps, epochs):
    """What a model that predicts 0 has lost in each epoch: the mean label that was evaluated."""

    def batches():
        while True:
            for number in range(7):
                yield np.zeros((10, 1)), np.full(10, float(number))

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mae")
    data = np.zeros((20, 1)), np.zeros(20)
    history = candle.scale(model).fit(
        *data, epochs=epochs, verbose=0, validation_data=batches(), validation_steps=steps
    )
    return history.history["val_loss"]
