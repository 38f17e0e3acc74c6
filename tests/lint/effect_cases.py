"""Trainings on ranks with the faults that reading finds, and with the remedies that it names."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

import keras_candle as candle

ROWS, BATCH = 48, 8
X = np.random.default_rng(0).normal(size=(ROWS, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def unseeded():
    np.random.seed()
    keras.utils.set_random_seed(1)
    np.random.seed()


def fitted(model, *data, batch="replica", **options):
    candle.scale(model, batch=batch, learning_rate_scaling=None)
    model.fit(*data, shuffle=False, verbose=0, **options)
    return [np.asarray(each).tolist() for each in model.weights]


def dense():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


class Batches(keras.utils.PyDataset):
    """Batches of rows in an order, or of rows that are drawn."""

    def __init__(self, order, draw=None):
        super().__init__()
        self.order, self.draw, self.drawn = order, draw, []

    def __len__(self):
        return ROWS // BATCH

    def __getitem__(self, index):
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        if self.draw:
            chosen = self.draw()
            self.drawn.append(chosen.tolist())
        return X[chosen], Y[chosen]


def order_of_each_rank():
    unseeded()
    fitted(dense(), Batches(np.random.permutation(ROWS)))


def rows_of_the_moment():
    fitted(
        dense(),
        Batches(np.arange(ROWS), lambda: np.random.default_rng().integers(ROWS, size=BATCH)),
    )


def rows_of_tensorflow():
    """The rows that a rank's last batch drew, with the same seed on all ranks."""
    keras.utils.set_random_seed(1)
    data = Batches(np.arange(ROWS), lambda: tf.random.uniform((BATCH,), 0, ROWS, "int32").numpy())
    fitted(dense(), data)
    return data.drawn[-1]


class Model(keras.Model):
    """A model whose step is given; of one layer that begins alike on all ranks."""

    def __init__(self, step):
        super().__init__()
        start = keras.initializers.GlorotUniform(3)
        self.net = keras.layers.Dense(3, kernel_initializer=start)
        self.step, self.count = step, tf.Variable(0)

    def call(self, x):
        return self.net(x)

    def train_step(self, x):
        with tf.GradientTape() as tape:
            loss = self.step(self, self.net(x))
        weights = self.net.trainable_weights
        gradients = tape.gradient(loss, weights)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return {"loss": loss}


def compiled(step):
    model = Model(step)
    model.compile(keras.optimizers.SGD(0.1))
    return model


def similarities(rows):
    products = tf.matmul(rows, rows, transpose_b=True)
    labels = tf.range(tf.shape(rows)[0])
    losses = keras.losses.sparse_categorical_crossentropy(labels, products, from_logits=True)
    return tf.reduce_mean(losses)


def pairs(gathered):
    """Whether ranks train a loss over pairs of rows as one rank does."""
    plain = compiled(lambda _, z: similarities(z))
    plain.fit(X, batch_size=BATCH, shuffle=False, verbose=0)
    own = (lambda _, z: similarities(candle.gather_rows(z))) if gathered else plain.step
    found = fitted(compiled(own), X, batch="global", batch_size=BATCH)
    expected = [np.asarray(each) for each in plain.weights]
    return all(np.allclose(a, b, atol=1e-6) for a, b in zip(expected, found, strict=True))


def counted(by_size, batch):
    def step(model, z):
        model.count.assign_add(candle.size() if by_size else 1)
        return tf.reduce_mean(z)

    model = compiled(step)
    fitted(model, X, batch_size=BATCH, batch=batch)
    return int(model.count)


def noise(of_step, rows):
    def step(_, z):
        count = tf.shape(z)[0] if of_step else BATCH
        return tf.reduce_mean(z * tf.random.uniform((count, 1)))

    fitted(compiled(step), X[:rows], batch_size=BATCH)


class Part(keras.layers.Layer):
    """A layer with an optimizer of its own."""

    def __init__(self):
        super().__init__()
        self.dense, self.opt = keras.layers.Dense(1), keras.optimizers.Adam(0.1)

    def call(self, x):
        return self.dense(x)


class WithPart(keras.Model):
    """A model whose step applies gradients with the optimizer of a part."""

    def __init__(self, keeps):
        super().__init__()
        self.part = Part()
        if keeps:
            self.part_opt = self.part.opt

    def call(self, x):
        return self.part(x)

    def train_step(self, x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(x) - 1.0))
        weights = self.trainable_weights
        gradients = tape.gradient(loss, weights)
        self.part.opt.apply_gradients(zip(gradients, weights, strict=True))
        return {"loss": loss}


def part(keeps):
    model = WithPart(keeps)
    model.compile("sgd")
    return fitted(model, X, batch_size=BATCH)
