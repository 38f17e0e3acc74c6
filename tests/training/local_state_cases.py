"""Models with weights that no optimizer updates, on N ranks and on one."""

from __future__ import annotations

import contextlib
import io
import types

import keras
import numpy as np
from keras import layers, ops

import keras_candle as candle
from keras_candle import engine as engines
from keras_candle.resume import model_state
from tests.training import cases

GLOBAL = {"batch": "global", "learning_rate_scaling": None}


class Counts(layers.Layer):
    """Counts rows in a whole number and in a float, and keeps the extremes of what it sees."""

    def build(self, _):
        self.rows = self.add_weight((), "zeros", "int32", name="rows", trainable=False)
        self.total = self.add_weight((), "zeros", name="total", trainable=False)
        self.top = self.add_weight((), "zeros", name="top", trainable=False)
        self.bottom = self.add_weight((), "zeros", name="bottom", trainable=False)

    def call(self, x, training=False):
        if training:
            self.rows.assign(self.rows + ops.shape(x)[0])
            self.total.assign(self.total + ops.sum(x))
            self.top.assign(ops.maximum(self.top, ops.max(x)))
            self.bottom.assign(ops.minimum(self.bottom, ops.min(x)))
        return x


candle.register_state_reduction(
    Counts, {"rows": "sum", "total": "sum", "top": "max", "bottom": "min"}
)


class Queue(layers.Layer):
    """Keeps the last rows of what it sees."""

    def build(self, shape):
        self.queue = self.add_weight((6, shape[-1]), "zeros", name="queue", trainable=False)

    def call(self, x, training=False):
        if training:
            self.queue.assign(ops.concatenate([x, self.queue], axis=0)[:6])
        return x


class KnownQueue(Queue):
    pass


candle.register_state_reduction(KnownQueue, {"queue": "root"})


def model_with(layer):
    model = keras.Sequential([keras.Input((8,)), layer, layers.Dense(3, "softmax")])
    model.compile(keras.optimizers.SGD(0.1), cases.SPARSE_LOSS)
    return model


def state_of(model):
    return [np.asarray(each).tolist() for each in model.non_trainable_weights]


def counted(batch, rows=25, epochs=3):
    """State over several epochs, the last batch of which some ranks have no row of."""

    def state(scale):
        keras.utils.set_random_seed(1)
        model = model_with(Counts())
        if scale:
            candle.scale(model, batch=batch)
        model.fit(*cases.digits_like(rows), batch_size=12, epochs=epochs, verbose=0)
        return state_of(model)

    return state(scale=False), state(scale=True)


def with_queue(known=False, **options):
    """The queue of a rank after training, and what was printed of it on root."""
    keras.utils.set_random_seed(1)
    model = model_with(KnownQueue() if known else Queue())
    candle.scale(model, **options)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        model.fit(*cases.digits_like(24), batch_size=12, epochs=3, verbose=0)
    return state_of(model), said.getvalue()


class Teacher(keras.Model):
    """A student and a teacher, whose weights follow the student's (MoCo, BYOL, mean teacher)."""

    def __init__(self):
        super().__init__()
        self.student, self.teacher = layers.Dense(3), layers.Dense(3, trainable=False)

    def build(self, shape):
        self.student.build(shape)
        self.teacher.build(shape)

    def call(self, x):
        return self.student(x)

    def train_step(self, data):
        import tensorflow as tf

        x, _ = data
        with tf.GradientTape() as tape:
            error = self.student(x) - tf.stop_gradient(self.teacher(1.1 * x))
            loss = tf.reduce_mean(tf.square(error))
        gradients = tape.gradient(loss, self.student.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.student.weights, strict=True))
        for mine, own in zip(self.teacher.weights, self.student.weights, strict=True):
            mine.assign(0.9 * mine + 0.1 * own)
        return {"loss": loss}


def taught():
    def build():
        model = Teacher()
        model.build((None, 8))
        model.compile(keras.optimizers.SGD(0.5))
        return model

    # The last global batch has one row: other ranks have none.
    weights, _, bits = cases.train_both(build, cases.digits_like(25), {"epochs": 2})
    return weights, bits


def spectral():
    def build():
        return model_with(layers.SpectralNormalization(layers.Dense(4)))

    return cases.train_both(build, cases.digits_like(25), {"epochs": 2})


def batches_then_evaluate():
    """`train_on_batch` with a batch of each rank, then `evaluate`: the state, and what was said."""
    engine = engines.current()
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((8,)), Counts(), layers.BatchNormalization(momentum=0.5), layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss)
    candle.scale(model)
    x, y = cases.digits_like(8 * engine.size)
    mine = slice(engine.rank, None, engine.size)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        model.train_on_batch(x[mine], y[mine])
        model.evaluate(x, y, verbose=0)
    by_hand = np.mean([x[rank :: engine.size].mean(0) for rank in range(engine.size)], axis=0)
    moving_mean = np.asarray(model.layers[1].moving_mean)
    return state_of(model), float(np.abs(moving_mean - by_hand / 2).max()), said.getvalue()


def taken_and_put_back(ranks_before):
    """State in the middle of an epoch, of so many ranks, on the ranks of now."""
    engine = engines.current()
    model = model_with(Counts())
    candle.scale(model)
    model.fit(*cases.digits_like(12), verbose=0)
    own = model_state.rank_state(model, engine)
    rows, total = 12, float(np.asarray(model.layers[0].total))
    places = [each.name for each in model.non_trainable_weights]

    def of_rank(rank):
        local = {"rows": rows + 1 + rank, "total": total + 2, "top": 50.0 + rank, "bottom": -9.0}
        return {**own, "local": {places.index(name): value for name, value in local.items()}}

    of_ranks = [of_rank(rank) for rank in range(ranks_before)]
    if ranks_before == engine.size:
        model_state.set_rank_state(model, of_ranks[engine.rank], (), engine)
    else:
        model_state.set_rank_state(model, of_ranks[0], of_ranks, engine)
    before = state_of(model)
    candle_replica = model._candle_trainer.replica
    candle_replica.reduce_local_state()
    return [before[0], before[1] - total, before[2]], state_of(model)[0]


class Constants(layers.Layer):
    """Holds what it draws in attributes of every kind."""

    def __init__(self, rng):
        super().__init__()
        kinds = ("array", "tensor", "number", "nested", "object", "enclosed", "hidden")
        drawn = {kind: rng.normal(size=8).astype("float32") for kind in kinds}
        self.array, self.number = drawn["array"], float(drawn["number"][0])
        self.tensor = ops.convert_to_tensor(drawn["tensor"])
        self.nested = {"a": [1.0, (2.0, drawn["nested"], drawn["nested"] + 1)]}
        self.settings = types.SimpleNamespace(shift=drawn["object"])
        enclosed = drawn["enclosed"]
        self.function = lambda x: x + enclosed
        hidden = layers.Dense(8)
        hidden.build((None, 8))
        hidden.kernel.assign(drawn["hidden"] * np.ones((8, 1)))
        self.untracked = types.SimpleNamespace(layer=hidden)
        self.rank = engines.current().rank

    def call(self, x):
        x = x + self.array + self.tensor + self.number + sum(self.nested["a"][1][1:])
        return self.untracked.layer(self.function(x + self.settings.shift))


def constants_drawn_apart():
    """What each rank predicts after a training, before it, and what was printed."""
    rank = engines.current().rank
    keras.utils.set_random_seed(1)
    model = model_with(Constants(np.random.default_rng(rank)))
    candle.scale(model)
    x, y = cases.digits_like(24)
    before = model.predict(x, verbose=0)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        model.fit(x, y, epochs=2, verbose=0)
        model.fit(x, y, verbose=0)
    after = model.predict(x, verbose=0)
    assert model.layers[0].rank == rank
    return before.tobytes(), after.tobytes(), said.getvalue()


def constants_on_one_rank():
    """The bits that one rank predicts, scaled and not."""
    x, y = cases.digits_like(24)

    def predict(scale):
        keras.utils.set_random_seed(1)
        model = model_with(Constants(np.random.default_rng(3)))
        (candle.scale if scale else lambda model: model)(model)
        model.fit(x, y, verbose=0)
        return model.predict(x, verbose=0).tobytes()

    return predict(scale=False), predict(scale=True)


def constant_of_the_graph():
    inputs = keras.Input((8,))
    drawn = np.random.default_rng(engines.current().rank).normal(size=8)
    fit_scaled(keras.Model(inputs, layers.Dense(3, "softmax")(inputs * drawn)))


def attribute_of_some_ranks():
    layer = layers.Identity()
    if engines.current().rank:
        layer.scales = [np.ones(2)]
    fit_scaled(keras.Sequential([keras.Input((8,)), layer, layers.Dense(3, "softmax")]))


def numbers_of_some_ranks():
    """What ranks print about a log in the model that root alone keeps, and a number."""
    layer, rank = layers.Identity(), engines.current().rank
    if rank == 0:
        layer.log = [0.5, 0.25]
    layer.scale = rank / 2
    with contextlib.redirect_stderr(io.StringIO()) as said:
        fit_scaled(keras.Sequential([keras.Input((8,)), layer, layers.Dense(3, "softmax")]))
    return list(getattr(layer, "log", ())), layer.scale, said.getvalue()


def fit_scaled(model, **options):
    model.compile(keras.optimizers.SGD(0.1), cases.SPARSE_LOSS)
    candle.scale(model, **options)
    model.fit(*cases.digits_like(24), batch_size=12, epochs=2, verbose=0)


class Largest(layers.Layer):
    """Keeps the largest value that it sees in a variable that Keras does not know."""

    def __init__(self, late=False):
        super().__init__()
        self.top = None if late else self.make()

    def make(self):
        import tensorflow as tf

        return tf.Variable(0.0)

    def call(self, x, training=False):
        import tensorflow as tf

        if self.top is None:
            with tf.init_scope():
                self.top = self.make()
        if training:
            self.top.assign(ops.maximum(self.top, ops.max(x)))
        return x / (1 + self.top)


def variable_of_rows(late=False, **options):
    """The variable of a rank after training, and what was printed of it on root."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), Largest(late), layers.Dense(3, "softmax")])
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        fit_scaled(model, **options)
    return float(model.layers[0].top), said.getvalue()
