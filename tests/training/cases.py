"""Trainings that run on every rank: each compares plain Keras on the whole batch with N ranks."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
from keras import layers, optimizers, regularizers

import keras_candle as candle
from keras_candle import engine as engines
from keras_candle.training import gradients

SPARSE_LOSS = "sparse_categorical_crossentropy"


def digits_like(rows=101, features=8, seed=0):
    """Rows of which the label is learnable."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, features)).astype("float32")
    y = (x @ random.normal(size=(features, 3))).argmax(1)
    return x, y


def tokens(rows=101, length=6, vocabulary=400, seed=0):
    random = np.random.default_rng(seed)
    x = random.integers(0, vocabulary, size=(rows, length))
    return x, x[:, 0] % 3


def dense_model(**compile_arguments):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, activation="tanh", kernel_regularizer=regularizers.L2(1e-3)),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(loss=SPARSE_LOSS, metrics=["accuracy"], **compile_arguments)
    return model


def text_model(vocabulary=400, **compile_arguments):
    """The Embedding is not the first variable, which Horovod's own grouped sum stumbles over."""
    ids = keras.Input((6,), dtype="int32")
    scaled = layers.Dense(4)(keras.ops.cast(ids, "float32") / vocabulary)
    embedded = layers.GlobalAveragePooling1D()(layers.Embedding(vocabulary, 5)(ids))
    again = layers.GlobalMaxPooling1D()(layers.Embedding(vocabulary, 3)(ids))
    joined = layers.Concatenate()([scaled, embedded, again])
    model = keras.Model(ids, layers.Dense(3, activation="softmax")(joined))
    model.compile(loss=SPARSE_LOSS, metrics=["accuracy"], **compile_arguments)
    return model


OPTIMIZERS = {
    "SGD": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: optimizers.Adam(0.01),
    "AdamW": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "RMSprop": lambda: optimizers.RMSprop(0.01),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adadelta": lambda: optimizers.Adadelta(1.0),
    "Adamax": lambda: optimizers.Adamax(0.01),
    "Nadam": lambda: optimizers.Nadam(0.01),
    "Ftrl": lambda: optimizers.Ftrl(0.1),
    "Lion": lambda: optimizers.Lion(0.001),
    "Adafactor": lambda: optimizers.Adafactor(0.01),
    "Lamb": lambda: optimizers.Lamb(0.01),
    "Muon": lambda: optimizers.Muon(0.01),
    "ScheduleFreeAdamW": lambda: optimizers.ScheduleFreeAdamW(0.01),
}
SETTINGS = {
    "clipnorm": lambda: optimizers.SGD(0.5, clipnorm=0.02),
    "global_clipnorm": lambda: optimizers.SGD(0.5, global_clipnorm=0.05),
    "clipvalue": lambda: optimizers.SGD(0.5, clipvalue=0.01),
    "ema": lambda: optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3),
    "ema_at_the_end": lambda: optimizers.SGD(0.1, use_ema=True),
    "weight_decay": lambda: optimizers.SGD(0.1, weight_decay=0.05),
    "exponential_decay": lambda: optimizers.SGD(
        optimizers.schedules.ExponentialDecay(0.2, decay_steps=3, decay_rate=0.5)
    ),
    "cosine_decay_with_warmup": lambda: optimizers.Adam(
        optimizers.schedules.CosineDecay(0.0, 20, warmup_target=0.02, warmup_steps=5)
    ),
    # Not Adam, for which a sum is as good as a mean.
    "accumulation": lambda: optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=3),
    "accumulation_clipped": lambda: optimizers.SGD(
        0.5, gradient_accumulation_steps=2, global_clipnorm=0.05
    ),
    "loss_scale_factor": lambda: optimizers.SGD(0.1, loss_scale_factor=64.0),
}


def weights_of(model):
    return [np.asarray(each) for each in model.get_weights()]


def optimizer_state(model):
    return [keras.ops.convert_to_numpy(each) for each in model.optimizer.variables]


def difference(model, reference):
    """The largest difference of any weight."""
    return weight_difference(model, weights_of(reference))


def weight_difference(model, reference):
    pairs = zip(weights_of(model), reference, strict=True)
    # NumPy's: Python's would leave out a NaN that is not the first.
    return float(np.max([np.abs(a.astype("float64") - b).max() for a, b in pairs]))


def bits(model):
    """All weights, optimizer variables and the last logs, as bytes."""
    import hashlib

    digest = hashlib.sha256()
    for array in [*weights_of(model), *optimizer_state(model)]:
        digest.update(np.ascontiguousarray(array).tobytes())
    logs = {name: [float(v) for v in values] for name, values in model.history.history.items()}
    digest.update(repr(logs).encode())
    return digest.hexdigest()


def log_difference(history, reference):
    pairs = (zip(history.history[name], reference[name], strict=True) for name in reference)
    return float(np.max([abs(a - b) for each in pairs for a, b in each]))


def train_both(build, data, fit=None, options=None):
    """Plain Keras on the whole batch and N ranks: the differences, and this rank's bits."""
    fit = {"batch_size": 12, "epochs": 1, "verbose": 0, **(fit or {})}
    options = {"batch": "global", "learning_rate_scaling": None, **(options or {})}
    engine, plain = engines.current(), None
    if engine.is_root:  # one copy is enough, and the others begin to build meanwhile
        keras.utils.set_random_seed(7)
        reference = build()
        plain = reference.fit(*data, **fit).history, weights_of(reference)
        keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    scaled = candle.scalable(**options)(build)()
    history = scaled.fit(*data, **fit)
    logs, weights = engine.broadcast(plain)
    return weight_difference(scaled, weights), log_difference(history, logs), bits(scaled)


KINDS = {
    "dense": lambda: (dense_model, digits_like()),
    "text": lambda: (text_model, tokens()),
    # so few words that a batch looks up most of them, several times
    "few_words": lambda: (partial(text_model, 12), tokens(vocabulary=12)),
}


def equivalence(optimizer, kind="dense", **arguments):
    build, data = KINDS[kind]()
    make = {**OPTIMIZERS, **SETTINGS}[optimizer]
    return train_both(lambda: build(optimizer=make(), **arguments), data)


def _weights(rows):
    return np.random.default_rng(5).random(rows).astype("float32")


FITS = {
    "sample_weight": {"sample_weight": _weights(101)},
    "class_weight": {"class_weight": {0: 2.0, 1: 0.5, 2: 1.0}},
    "validation_split": {"validation_split": 0.3},
    "validation_data": {"validation_data": (*digits_like(rows=31, seed=0), _weights(31))},
    "validation_steps": {
        "validation_data": digits_like(rows=31),
        "validation_steps": 2,
        "validation_batch_size": 6,
    },
    "shuffle": {"shuffle": False},
    "shuffle_in_batches": {"shuffle": "batch"},
    "steps_per_epoch": {"steps_per_epoch": 5, "epochs": 3},
    "validation_freq": {"validation_split": 0.2, "validation_freq": 2},
    "dataset": {},
    "dataset_with_validation": {},
}


def fitted(what):
    """fit with each of its arguments, on models that also have weighted metrics."""
    import tensorflow as tf

    def build():
        model = dense_model(optimizer="sgd")
        model.compile(
            optimizers.SGD(0.1), SPARSE_LOSS, metrics=["accuracy"], weighted_metrics=["accuracy"]
        )
        return model

    data, fit = digits_like(), {"epochs": 2, **FITS[what]}
    if what.startswith("dataset"):
        whole = tf.data.Dataset.from_tensor_slices(data)
        data = (whole.shuffle(50, seed=2, reshuffle_each_iteration=False).batch(12),)
        fit["batch_size"] = None
        if what.endswith("validation"):
            fit["validation_data"] = whole.take(40).batch(7)
    return train_both(build, data, fit)


def without_averaging():
    original = gradients.average_over_ranks
    from keras_candle.training import replica

    replica.average_over_ranks = lambda *_: lambda grads, variables: grads
    try:
        # The guard would stop it after the first step.
        make, options = SETTINGS["global_clipnorm"], {"guard": False}
        return train_both(lambda: dense_model(optimizer=make()), digits_like(), options=options)[0]
    finally:
        replica.average_over_ranks = original


def averaging_after_clipping():
    """The classic mistake: hooked where the gradients are already clipped."""
    from keras_candle.training import replica

    original = replica.transform_gradients

    def hook_late(optimizer, *transforms):
        average = transforms[-1]
        plain = type(optimizer)._clip_gradients

        def clip(grads):
            return average(plain(optimizer, grads), optimizer._trainable_variables)

        optimizer._clip_gradients = clip

    replica.transform_gradients = hook_late
    try:
        return equivalence("global_clipnorm")[0]
    finally:
        replica.transform_gradients = original


def mixed_float16(inner):
    """The scale begins low: a rank's mean over fewer rows overflows earlier than the whole's."""

    def build():
        return dense_model(
            optimizer=optimizers.LossScaleOptimizer(inner_of(inner), initial_scale=2.0**8)
        )

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return train_both(build, digits_like())
    finally:
        keras.config.set_dtype_policy(before)


def inner_of(name):
    if name == "clipped":
        return optimizers.SGD(0.1, global_clipnorm=0.1)
    return optimizers.Adam(0.01, epsilon=0.01)


def infinity_on_one_rank(accumulate=None):
    """Rank 1 alone overflows in one step: every rank skips it and halves the same loss scale."""
    engine = engines.current()
    rows = 8 * engine.size
    x, y = digits_like(rows=3 * rows)
    x[rows + 1, 0] = 5000.0  # row 1 of the second global batch goes to rank 1
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inner = optimizers.SGD(0.1, gradient_accumulation_steps=accumulate)
        optimizer = optimizers.LossScaleOptimizer(inner, initial_scale=2.0**8)
        model = dense_model(optimizer=optimizer)
        candle.scale(model, batch="global", learning_rate_scaling=None)
        poison(model)
        model.fit(x, y, batch_size=rows, epochs=1, shuffle=False, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    return float(optimizer.dynamic_scale), int(optimizer.iterations), bits(model)


def poison(model):
    """Make the gradient infinite where a row holds 5000."""
    plain = model.compute_loss

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = plain(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        infinite = keras.ops.sum(model.trainable_weights[0]) * 3e38
        return loss + keras.ops.where(keras.ops.max(x) > 4000, infinite, 0.0)

    model.compute_loss = compute_loss


class Adversary(keras.Model):
    """Two optimizers, one of which is called by apply, and losses of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(4), layers.Dense(1)
        self.seen = keras.metrics.Mean(name="seen")

    def compile(self, first_optimizer, others):
        super().compile()
        self.first_optimizer, self.others = first_optimizer, others

    def call(self, x):
        return self.second(self.first(x))

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            error = tf.cast(y, "float32")[:, None] - self(x)
            loss = tf.reduce_mean(error**2)
        first = tape.gradient(loss, self.first.trainable_variables)
        second = tape.gradient(loss, self.second.trainable_variables)
        self.first_optimizer.apply_gradients(
            zip(first, self.first.trainable_variables, strict=True)
        )
        self.others[0].apply(second, self.second.trainable_variables)
        self.seen.update_state(loss, sample_weight=tf.shape(x)[0])
        return {"seen": self.seen.result()}

    @property
    def metrics(self):
        return [self.seen]


def several_optimizers():
    def build():
        model = Adversary()
        model.compile(optimizers.Adam(0.01), [optimizers.SGD(0.1, clipnorm=0.1)])
        return model

    x, y = digits_like()
    differ, logs, _ = train_both(build, (x, y))
    return differ, logs


def multi_optimizer():
    def build():
        chosen = {"dense.*": optimizers.SGD(0.1)}
        mapping = optimizers.OptimizerMap(optimizers.Adam(0.01), chosen)
        return dense_model(optimizer=optimizers.MultiOptimizer(mapping))

    return train_both(build, digits_like())


class PartlyUsed(keras.Model):
    """One of its layers gets no gradient."""

    def __init__(self):
        super().__init__()
        self.unused, self.used = layers.Dense(2), layers.Dense(3, activation="softmax")

    def call(self, x):
        self.unused(x)
        return self.used(x)


def none_gradients():
    import warnings

    def build():
        model = PartlyUsed()
        model.compile("sgd", SPARSE_LOSS)
        return model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return train_both(build, digits_like())
