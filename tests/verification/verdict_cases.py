"""Small programs with known causes of a difference between N ranks and one, and faultless ones."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

import keras_candle as candle

ROWS = 24


def data(features=8, classes=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, features)).astype("float32")
    return x, (x @ rng.normal(size=(features, classes))).argmax(1)


def fit(model, x, y=None, loss="sparse_categorical_crossentropy", optimizer=None, **options):
    if not model.compiled:
        model.compile(optimizer or keras.optimizers.SGD(0.1), loss)
    candle.scale(model, **options)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)


def classifier(*between, **compiled):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, "tanh", name="first"),
            *between,
            layers.Dense(3, "softmax", name="last"),
        ]
    )
    if compiled:
        model.compile(keras.optimizers.SGD(0.1), **compiled)
    return model


def plain():
    fit(classifier(), *data())


def functional_with_weights():
    x, y = data()
    model = classifier()
    model.compile(
        keras.optimizers.Adam(0.01),
        "sparse_categorical_crossentropy",
        weighted_metrics=["accuracy"],
    )
    candle.scale(model)
    model.fit(x, y, sample_weight=np.linspace(0.5, 1.5, ROWS), batch_size=7, epochs=2, verbose=0)


def dropout():
    fit(classifier(layers.Dropout(0.5, name="drop")), *data())


def gaussian_noise():
    fit(classifier(layers.GaussianNoise(0.5, name="noise")), *data())


def augmentation():
    x = np.random.default_rng(0).random((ROWS, 6, 6, 1), "float32")
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.RandomTranslation(0.3, 0.3, name="shifted"),
            layers.Flatten(),
            layers.Dense(3, "softmax"),
        ]
    )
    fit(model, x, data()[1])


def batch_normalization():
    fit(classifier(layers.BatchNormalization(name="norm")), *data())


def synchronized_batch_normalization():
    fit(classifier(layers.BatchNormalization(name="norm")), *data(), sync_batch_norm=True)


def dropout_and_batch_normalization():
    norm = layers.BatchNormalization(name="norm")
    fit(classifier(norm, layers.Dropout(0.5, name="drop")), *data())


class Sampling(layers.Layer):
    """Draws from the latent space as many examples do: with TensorFlow, without a seed."""

    def call(self, inputs):
        import tensorflow as tf

        mean, log_var = inputs
        epsilon = tf.random.normal(shape=tf.shape(mean))
        return mean + tf.exp(0.5 * log_var) * epsilon


class SeededSampling(layers.Layer):
    """Draws from the latent space with a seed generator of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, inputs):
        mean, log_var = inputs
        epsilon = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * epsilon


class ConstantSampling(layers.Layer):
    """Draws the same numbers in each step."""

    def call(self, inputs):
        mean, log_var = inputs
        return mean + ops.exp(0.5 * log_var) * keras.random.normal(ops.shape(mean), seed=7)


class GlobalSampling(layers.Layer):
    """Draws from Keras's global generator."""

    def call(self, inputs):
        mean, log_var = inputs
        return mean + ops.exp(0.5 * log_var) * keras.random.normal(ops.shape(mean))


class VAE(keras.Model):
    def __init__(self, sampling):
        super().__init__(name="vae")
        self.encoder = layers.Dense(6, "tanh")
        self.mean, self.log_var = layers.Dense(2), layers.Dense(2)
        self.sampling, self.decoder = sampling, layers.Dense(8)
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def call(self, x):
        hidden = self.encoder(x)
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        return self.decoder(self.sampling([mean, log_var])), mean, log_var

    def train_step(self, data):
        import tensorflow as tf

        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            decoded, mean, log_var = self(x, training=True)
            rebuilt = tf.reduce_mean(tf.reduce_sum(tf.square(decoded - x), axis=1))
            kl = -0.5 * (1 + log_var - tf.square(mean) - tf.exp(log_var))
            loss = rebuilt + tf.reduce_mean(tf.reduce_sum(kl, axis=1))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def _vae(sampling):
    model = VAE(sampling(name="sampling"))
    model.compile(keras.optimizers.SGD(0.05))
    fit(model, data()[0])


def vae():
    _vae(Sampling)


def seeded_vae():
    _vae(SeededSampling)


def constant_vae():
    _vae(ConstantSampling)


def global_vae():
    _vae(GlobalSampling)


class Contrastive(keras.Model):
    """SimCLR's loss over all pairs of rows."""

    gather = staticmethod(lambda rows: rows)

    def __init__(self, *inner):
        super().__init__(name="simclr")
        self.encoder = keras.Sequential([layers.Dense(6, "tanh"), *inner, layers.Dense(4)])

    def call(self, x):
        return self.encoder(x)

    def train_step(self, data):
        import tensorflow as tf

        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            a = self.gather(tf.math.l2_normalize(self(x, training=True), axis=1))
            b = self.gather(tf.math.l2_normalize(self(0.9 * x + 0.1, training=True), axis=1))
            similarity = tf.matmul(a, b, transpose_b=True) / 0.1
            labels = tf.range(tf.shape(similarity)[0])
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, similarity)
            )
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": loss}


class Gathered(Contrastive):
    gather = staticmethod(candle.gather_rows)


def _contrastive(kind, *inner):
    model = kind(*inner)
    model.compile(keras.optimizers.SGD(0.05))
    fit(model, data()[0])


def contrastive():
    _contrastive(Contrastive)


def gathered_contrastive():
    _contrastive(Gathered)


def contrastive_with_dropout():
    _contrastive(Contrastive, layers.Dropout(0.3, name="drop"))


def contrastive_with_batch_normalization():
    _contrastive(Contrastive, layers.BatchNormalization(name="norm"))


class ContrastiveLayer(layers.Layer):
    """Adds a loss over pairs of rows."""

    def call(self, x):
        similarity = ops.matmul(x, ops.transpose(x))
        self.add_loss(ops.mean(ops.logsumexp(similarity, axis=1)))
        return x


def added_pairs():
    fit(classifier(ContrastiveLayer(name="pairs")), *data())


def compiled_pairs():
    def loss(_, z):
        similarity = ops.matmul(z, ops.transpose(z))
        return ops.mean(ops.logsumexp(similarity, axis=1))

    fit(classifier(), *data(), loss=loss)


class Summed(keras.Model):
    """A loss that adds up the rows of a batch."""

    def __init__(self):
        super().__init__(name="summed")
        self.last = layers.Dense(1)

    def call(self, x):
        return self.last(x)

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(self(x)[:, 0] - tf.cast(y, "float32")))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": loss}


def summed():
    model = Summed()
    model.compile(keras.optimizers.SGD(0.01))
    fit(model, *data())


class Centred(layers.Layer):
    """Subtracts the mean over the rows of the batch."""

    def call(self, x):
        return x - ops.mean(x, axis=0, keepdims=True)


def batch_statistics():
    fit(classifier(Centred(name="centred")), *data())


class GraphConvolution(layers.Layer):
    def build(self, shapes):
        self.kernel = self.add_weight((shapes[0][-1], 3))

    def call(self, inputs):
        nodes, adjacency = inputs
        return ops.matmul(adjacency, ops.matmul(nodes, self.kernel))


def graph():
    nodes, y = data()
    adjacency = (np.random.default_rng(1).random((ROWS, ROWS)) < 0.2).astype("float32")
    inputs = [keras.Input((8,)), keras.Input((ROWS,))]
    model = keras.Model(inputs, layers.Softmax()(GraphConvolution(name="graph")(inputs)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    candle.scale(model)
    model.fit([nodes, adjacency], y, batch_size=ROWS, epochs=2, shuffle=False, verbose=0)


def whole_graphs():
    """Graphs as rows of a batch."""
    rng = np.random.default_rng(1)
    nodes, adjacency = (rng.random((ROWS, 4, size), "float32") for size in (8, 4))
    inputs = [keras.Input((4, 8)), keras.Input((4, 4))]
    model = keras.Model(inputs, layers.Softmax()(GraphConvolution(name="graph")(inputs)))
    fit(model, [nodes, adjacency], np.zeros((ROWS, 4), int))


class TimeMajor(layers.Layer):
    """Adds up over time, which is the first axis of its data."""

    def call(self, x):
        return ops.cumsum(x, axis=0)


def time_major():
    fit(classifier(TimeMajor(name="over_time")), *data())


class OwnStep(keras.Sequential):
    """A training step of the program's own, with a mean over rows as its loss."""

    factor = staticmethod(lambda: 1)

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.compute_loss(*data, self(data[0], training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients[-2] = gradients[-2] * self.factor()
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


class WrongStep(OwnStep):
    factor = staticmethod(candle.size)


def _stepped(kind, *between):
    last = layers.Dense(3, "softmax", name="last")
    fit(kind([keras.Input((8,)), layers.Dense(6, name="first"), *between, last]), *data())


def own_step():
    _stepped(OwnStep)


def own_step_with_batch_normalization():
    _stepped(OwnStep, layers.BatchNormalization(name="norm"))


def wrong_gradient():
    _stepped(WrongStep)
