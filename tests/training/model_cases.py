"""Models as people write them, on N ranks and on one."""

from __future__ import annotations

import copy

import keras
import numpy as np
from keras import layers, losses, optimizers

import keras_candle as candle
from keras_candle import engine as engines
from tests.training import cases

EXACT = {"batch": "global", "learning_rate_scaling": None}


class Adversaries(keras.Model):
    """A GAN: no call, two optimizers, each with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        self.critic = keras.Sequential([keras.Input((2,)), layers.Dense(4), layers.Dense(1)])
        self.critic_loss = keras.metrics.Mean(name="critic_loss")

    def compile(self, optimizers_, **kwargs):
        super().compile(**kwargs)
        self.optimizers = optimizers_

    @property
    def metrics(self):
        return [self.critic_loss]

    def train_step(self, data):
        import tensorflow as tf

        noise, real = data
        loss = losses.BinaryCrossentropy(from_logits=True)
        with tf.GradientTape(persistent=True) as tape:
            fake_score = self.critic(self.generator(noise))
            real_score = self.critic(real)
            ones, zeros = tf.ones_like(real_score), tf.zeros_like(real_score)
            critic = loss(ones, real_score) + loss(zeros, fake_score)
            generator = loss(ones, fake_score)
        for part, cost in (("critic", critic), ("generator", generator)):
            weights = getattr(self, part).trainable_weights
            gradients = tape.gradient(cost, weights)
            self.optimizers[part].apply_gradients(zip(gradients, weights, strict=True))
        self.critic_loss.update_state(critic, sample_weight=tf.shape(real)[0])
        return {"critic_loss": self.critic_loss.result()}


def adversaries():
    def build():
        model = Adversaries()
        model.compile({"critic": optimizers.Adam(0.01), "generator": optimizers.SGD(0.1)})
        return model

    random = np.random.default_rng(0)
    data = [random.normal(size=(101, n)).astype("float32") for n in (3, 2)]
    return _both(build, data)


def _both(build, data, fit=None, options=None):
    return cases.train_both(build, data, {"epochs": 2, **(fit or {})}, {**EXACT, **(options or {})})


def several_outputs():
    """Two inputs, two outputs, losses with weights, and metrics of each."""

    def build():
        wide, deep = keras.Input((8,), name="wide"), keras.Input((3,), name="deep")
        joined = layers.Concatenate()([layers.Dense(4)(wide), layers.Dense(4)(deep)])
        outputs = {
            "kind": layers.Dense(3, activation="softmax", name="kind")(joined),
            "size": layers.Dense(1, name="size")(joined),
        }
        model = keras.Model({"wide": wide, "deep": deep}, outputs)
        model.compile(
            optimizers.Adam(0.01),
            {"kind": cases.SPARSE_LOSS, "size": "mse"},
            loss_weights={"kind": 1.0, "size": 0.3},
            metrics={"kind": ["accuracy"], "size": ["mae"]},
        )
        return model

    x, y = cases.digits_like()
    inputs = {"wide": x, "deep": x[:, :3]}
    held_out = (inputs, {"kind": y, "size": x[:, :1]})
    return _both(build, (inputs, {"kind": y, "size": x[:, 1:2]}), {"validation_data": held_out})


def masked():
    """Padding that the loss leaves out: each rank has another number of values."""

    def build():
        ids = keras.Input((6,), dtype="int32")
        embedded = layers.Embedding(50, 4, mask_zero=True)(ids)
        model = keras.Model(ids, layers.Dense(3, activation="softmax")(embedded))
        model.compile(optimizers.SGD(0.5), cases.SPARSE_LOSS, metrics=["accuracy"])
        return model

    x, _ = cases.tokens(vocabulary=50)
    lengths = np.random.default_rng(1).integers(1, 7, size=len(x))
    x = np.where(np.arange(6) < lengths[:, None], x, 0)
    return _both(build, (x, x % 3))


LOSSES = {
    "sum": lambda: losses.SparseCategoricalCrossentropy(reduction="sum"),
    "mean_with_sample_weight": lambda: losses.SparseCategoricalCrossentropy(
        reduction="mean_with_sample_weight"
    ),
    "ignore_class": lambda: losses.SparseCategoricalCrossentropy(ignore_class=1),
}


def reduced(how, rows):
    def build():
        model = cases.dense_model(optimizer="sgd")
        model.compile(optimizers.SGD(0.05), LOSSES[how](), metrics=["accuracy"])
        return model

    weights = np.random.default_rng(5).random(rows).astype("float32")
    sample_weight = {"sample_weight": weights} if how == "mean_with_sample_weight" else {}
    return _both(build, cases.digits_like(rows=rows), sample_weight)


def shared_layers():
    """One Dense and one synchronized BatchNormalization, each called twice in a step."""

    def build():
        dense, normalize = layers.Dense(4), layers.BatchNormalization(synchronized=True)
        left, right = keras.Input((8,)), keras.Input((8,))
        joined = layers.Add()([normalize(dense(left)), normalize(dense(right))])
        model = keras.Model([left, right], layers.Dense(3, activation="softmax")(joined))
        model.compile(optimizers.SGD(0.1), cases.SPARSE_LOSS)
        return model

    x, y = cases.digits_like(rows=96)
    return _both(build, ([x, x[::-1].copy()], y))


def by_xla(how="dense"):
    def build():
        arguments = {"optimizer": optimizers.Adam(0.01), "jit_compile": True}
        if how == "text":
            return cases.text_model(**arguments)
        return cases.dense_model(**arguments)

    return _both(build, cases.tokens() if how == "text" else cases.digits_like())


def copied(by):
    """A copy of a scaled model is scaled; a clone is a plain model, and can be."""
    x, y = cases.digits_like()
    keras.utils.set_random_seed(engines.current().rank)
    model = candle.scale(cases.dense_model(optimizer=optimizers.Adam(0.01)))
    keras.utils.set_random_seed(0)
    if by == "deepcopy":
        again = copy.deepcopy(model)
    else:
        again = keras.models.clone_model(model)
        again.compile("sgd", cases.SPARSE_LOSS)
        candle.scale(again)
    again.fit(x, y, batch_size=12, verbose=0)
    steps = int(again.optimizer.iterations)
    return again is not model, steps, [each.tobytes() for each in again.get_weights()]


class Noisy(layers.Layer):
    """Draws with a generator of its own."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(3)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.generator)


def own_generators():
    model = keras.Sequential([keras.Input((4,)), Noisy(), layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((12, 4), "float32")
    candle.scale(model).fit(x, x[:, :1], verbose=0)
    return keras.ops.convert_to_numpy(model.layers[0](x)).tobytes()


def accumulated(steps, precision="float32", batch="global"):
    """How many gradients meet how often in an epoch, and the difference to one rank."""
    engine = engines.current()
    meetings = []
    plain_meet = type(engine)._meet

    def meet(communicator, what, problem):
        if what.startswith("sum of optimizer.0:") and "(1,)" not in what:
            meetings.append(what)
        return plain_meet(engine, communicator, what, problem)

    def build():
        inner = optimizers.SGD(0.1, gradient_accumulation_steps=steps, global_clipnorm=0.1)
        scaled = optimizers.LossScaleOptimizer(inner, initial_scale=2.0**8)
        return cases.dense_model(optimizer=scaled if precision == "mixed_float16" else inner)

    keras.config.set_dtype_policy(precision)
    engine._meet = meet
    try:
        weights, _, bits = _both(
            build, cases.digits_like(rows=101), {"epochs": 1}, {"batch": batch}
        )
    finally:
        del engine._meet
        keras.config.set_dtype_policy("float32")
    return weights, len(meetings), bits


def batches():
    """A loop over train_on_batch by a script that knows no ranks."""
    x, y = cases.digits_like(rows=60)
    keras.utils.set_random_seed(1)
    reference = cases.dense_model(optimizer=optimizers.SGD(0.1))
    keras.utils.set_random_seed(1)
    model = candle.scale(cases.dense_model(optimizer=optimizers.SGD(0.1)))
    apart = []
    for start in range(0, 60, 11):  # the last one has 5 rows
        batch = slice(start, start + 11)
        weights = {0: 1.0, 1: 2.0, 2: 0.5}
        plain = reference.train_on_batch(x[batch], y[batch], class_weight=weights)
        logs = model.train_on_batch(x[batch], y[batch], class_weight=weights)
        apart.append(float(np.abs(np.subtract(plain, logs)).max()))
    return cases.difference(model, reference), float(np.max(apart)), int(model.optimizer.iterations)


def looked_up(sharing, optimizer, **options):
    """Embeddings of which one is looked up 50 times a row, over rows that the ranks cannot share.

    Ranks of which the last batch has another shape trace the step anew, and alone.
    """

    def build():
        one, many = keras.Input((1,), dtype="int32"), keras.Input((50,), dtype="int32")
        first = layers.Embedding(200, 4)
        second = first if sharing else layers.Embedding(200, 4)
        joined = [
            layers.Flatten()(first(one)),
            layers.GlobalAveragePooling1D()(second(many)),
        ]
        model = keras.Model([one, many], layers.Dense(1)(layers.Concatenate()(joined)))
        model.compile(OPTIMIZERS[optimizer](), "mse")
        return model

    random = np.random.default_rng(0)
    inputs = [random.integers(0, 200, (15, length)) for length in (1, 50)]
    targets = random.normal(size=(15, 1)).astype("float32")
    # In batches of one replica the ranks take other steps than one rank: only they are compared.
    fit = {"batch_size": 4, "shuffle": False}
    return _both(build, (inputs, targets), fit, options)


class Positions(layers.Layer):
    """Adds an embedding of each position, which all rows share.

    Args:
        kind: "embedding" looks positions up in a table of its own, "shared" in that of the tokens,
            "constant" looks fixed indices up, one of them twice, by keras.ops.take, "function" does
            so in a tf.function.
    """

    def __init__(self, kind):
        super().__init__()
        self._kind = kind
        self._tokens = layers.Embedding(30, 4)
        self._positions = self._tokens if kind == "shared" else layers.Embedding(12, 4)
        self._fixed = np.array([3, 1, 1, 0, 2, 4, 5, 6, 7, 8])

    def build(self, _):
        self._table = self.add_weight(shape=(12, 4), initializer="ones")

    def _look_up(self):
        import tensorflow as tf

        def take():
            return keras.ops.take(self._table, self._fixed, axis=0)

        return tf.function(take)() if self._kind == "function" else take()

    def call(self, ids):
        if self._kind in ("constant", "function"):
            return self._tokens(ids) + self._look_up()
        return self._tokens(ids) + self._positions(keras.ops.arange(keras.ops.shape(ids)[-1]))


def positions(kind, **compiled):
    """Lookups that do not depend on the batch, with an optimizer that squares each slice."""

    def build():
        ids = keras.Input((10,), dtype="int32")
        embedded = Positions(kind)(ids)
        model = keras.Model(ids, layers.Dense(1)(layers.Flatten()(embedded)))
        model.compile(optimizers.Adam(0.01), "mse", **compiled)
        return model

    random = np.random.default_rng(0)
    ids = random.integers(0, 30, (101, 10))
    ids[:50] = 7  # the same lookups on all ranks, and still of the batch
    return _both(build, (ids, random.normal(size=(101, 1)).astype("float32")))


class OneHotEmbedding(layers.Layer):
    """An embedding whose gradient is dense: the sum of a row's slices."""

    def build(self, _):
        self.table = self.add_weight(shape=(12, 8))

    def call(self, ids):
        return keras.ops.matmul(keras.ops.one_hot(ids, 12), self.table)


def summed_slices(recompile=False):
    """Few words with Adam: plain Keras with dense gradients, and sum_embedding_slices."""
    random = np.random.default_rng(0)
    ids, targets = random.integers(0, 12, (101, 10)), random.normal(size=(101, 1))
    shapes = (12, 8), (80, 1), (1,)
    weights = [random.normal(size=shape) * 0.1 for shape in shapes]

    def build(embedding):
        words = keras.Input((10,), dtype="int32")
        model = keras.Model(words, layers.Dense(1)(layers.Flatten()(embedding(words))))
        model.set_weights(weights)
        model.compile(optimizers.Adam(0.01), "mse")
        return model

    fit = {"batch_size": 12, "epochs": 2, "verbose": 0, "shuffle": False}
    reference = build(OneHotEmbedding())
    history = reference.fit(ids, targets, **fit)
    options = {"batch": "global", "learning_rate_scaling": None, "sum_embedding_slices": True}
    model = candle.scale(build(layers.Embedding(12, 8)), **options)
    if recompile:
        model.compile(optimizers.Adam(0.01), "mse")
    found = model.fit(ids, targets, **fit)
    return (
        cases.weight_difference(model, cases.weights_of(reference)),
        cases.log_difference(found, history.history),
        cases.bits(model),
    )


OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1),
    "accumulating": lambda: optimizers.Adam(0.01, gradient_accumulation_steps=2),
}
