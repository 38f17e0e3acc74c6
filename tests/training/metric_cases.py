"""Metrics over unequal shards, against plain Keras on all rows."""

from __future__ import annotations

import inspect

import keras
import numpy as np
from keras import layers, metrics

import keras_candle as candle
from tests.training import cases

ROWS = 101

# What a metric is given: (y_true, y_pred) of the kind that it is for.
KINDS = {
    "binary": lambda r: ((r.random((ROWS, 1)) > 0.4).astype("float32"), r.random((ROWS, 1))),
    "classes": lambda r: (np.eye(4)[r.integers(0, 4, ROWS)], _simplex(r)),
    "sparse": lambda r: (r.integers(0, 4, (ROWS, 1)), _simplex(r)),
    "labels": lambda r: (r.integers(0, 3, (ROWS, 1)), r.integers(0, 3, (ROWS, 1))),
    "positive": lambda r: (r.random((ROWS, 4)) + 0.1, r.random((ROWS, 4)) + 0.1),
}
ARGUMENTS = {
    "MeanIoU": ("labels", {"num_classes": 3}),
    "IoU": ("labels", {"num_classes": 3, "target_class_ids": [0, 2]}),
    "BinaryIoU": ("binary", {"threshold": 0.5}),
    "OneHotIoU": ("classes", {"num_classes": 4, "target_class_ids": [1]}),
    "OneHotMeanIoU": ("classes", {"num_classes": 4}),
    "PrecisionAtRecall": ("binary", {"recall": 0.5}),
    "RecallAtPrecision": ("binary", {"precision": 0.5}),
    "SensitivityAtSpecificity": ("binary", {"specificity": 0.5}),
    "SpecificityAtSensitivity": ("binary", {"sensitivity": 0.5}),
    "F1Score": ("classes", {"average": "weighted"}),
    "FBetaScore": ("classes", {"beta": 2.0}),
    "SparseCategoricalAccuracy": ("sparse", {}),
    "SparseCategoricalCrossentropy": ("sparse", {}),
    "SparseTopKCategoricalAccuracy": ("sparse", {"k": 2}),
    "TopKCategoricalAccuracy": ("classes", {"k": 2}),
    "CategoricalAccuracy": ("classes", {}),
    "CategoricalCrossentropy": ("classes", {}),
    "CategoricalHinge": ("classes", {}),
    "Accuracy": ("labels", {}),
}
OF_BINARY = (
    *("AUC", "BinaryAccuracy", "BinaryCrossentropy", "Hinge", "Precision", "Recall"),
    *("FalseNegatives", "FalsePositives", "SquaredHinge", "TrueNegatives", "TruePositives"),
)
# Not called with (y_true, y_pred): they are trackers, or what others are made of.
NO_PAIRS = ("Metric", "Mean", "Sum", "MeanMetricWrapper")


def _simplex(random):
    values = random.random((ROWS, 4))
    return values / values.sum(1, keepdims=True)


def built_in():
    found = vars(metrics)
    return sorted(
        name
        for name, each in found.items()
        if inspect.isclass(each) and issubclass(each, metrics.Metric) and name not in NO_PAIRS
    )


def kind_of(name):
    kind, arguments = ARGUMENTS.get(name, ("binary" if name in OF_BINARY else "positive", {}))
    return kind, getattr(metrics, name)(name=name.lower(), **arguments)


def all_built_in(kind, weighted):
    """Every metric for one kind of data: evaluated by plain Keras, and by all ranks together."""
    y_true, y_pred = KINDS[kind](np.random.default_rng(3))
    weights = np.random.default_rng(4).random(ROWS).astype("float32") if weighted else None

    def build():
        chosen = [each for name in built_in() for k, each in [kind_of(name)] if k == kind]
        model = keras.Sequential([keras.Input(y_pred.shape[1:]), layers.Identity()])
        model.compile(loss="mse", **{"weighted_metrics" if weighted else "metrics": chosen})
        return model

    arguments = {"sample_weight": weights, "batch_size": 8, "verbose": 0, "return_dict": True}
    x, y = y_pred.astype("float32"), y_true.astype("float32")
    return build().evaluate(x, y, **arguments), candle.scale(build()).evaluate(x, y, **arguments)


class Spread(metrics.Metric):
    """A range: its states are extremes."""

    def __init__(self, name="spread"):
        super().__init__(name=name)
        self.top = self.add_variable((), "zeros", name="top")
        self.bottom = self.add_variable((), "zeros", name="bottom")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.top.assign(keras.ops.maximum(self.top, keras.ops.max(y_pred)))
        self.bottom.assign(keras.ops.minimum(self.bottom, keras.ops.min(y_pred)))

    def result(self):
        return self.top - self.bottom


class KnownSpread(Spread):
    pass


class Remembering(metrics.Metric):
    """Keeps what it has seen in a list."""

    def __init__(self, name="remembering"):
        super().__init__(name=name)
        self.seen = []

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seen.append(1)

    def result(self):
        return float(len(self.seen))


OWN = {each.__name__: each for each in (Spread, KnownSpread, Remembering)}


def own_metric(name):
    candle.register_metric_reduction(KnownSpread, {"top": "max", "bottom": "min"})
    x = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")

    def build():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
        model.compile("sgd", "mse", metrics=[OWN[name](name=name.lower())])
        return model

    plain = build().evaluate(x, x[:, :1], verbose=0, batch_size=8)
    return plain, candle.scale(build()).evaluate(x, x[:, :1], verbose=0, batch_size=8)


class Tracking(keras.Model):
    """A training step with metrics of its own, and what it returns may nest."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)
        self.error = metrics.Mean(name="error")
        self.curve = metrics.AUC(name="curve")
        self.of_batches = metrics.Mean(name="of_batches")

    @property
    def metrics(self):
        return [self.error, self.curve, self.of_batches]

    def call(self, x):
        return keras.ops.sigmoid(self.dense(x))

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = tf.reduce_mean(keras.losses.binary_crossentropy(y, y_pred))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.error.update_state(keras.losses.binary_crossentropy(y, y_pred))
        self.curve.update_state(y, y_pred)
        self.of_batches.update_state(loss)  # one number: each batch counts once, also the last
        return {each.name: each.result() for each in self.metrics}


def tracked():
    """Logs of fit with metrics that a training step tracks itself."""
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, 4)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")

    def logs(scale):
        keras.utils.set_random_seed(0)
        model = Tracking()
        model.compile(keras.optimizers.SGD(0.1))
        model(x[:1])
        if scale:
            candle.scale(model, batch="global")
        history = model.fit(x, y, batch_size=8, shuffle=False, verbose=0, epochs=2).history
        return {name: history[name] for name in ("error", "curve", "of_batches")}

    return logs(scale=False), logs(scale=True)


class F1(metrics.Metric):
    """Of metrics inside, assigned and not added to; nested in a list and a dict."""

    def __init__(self, name="f1"):
        super().__init__(name=name)
        self.f1 = self.add_variable((), "zeros", name="f1")
        self.inner = [metrics.Precision(), {"recall": metrics.Recall()}]

    def update_state(self, y_true, y_pred, sample_weight=None):
        p = self.inner[0](y_true, y_pred)
        r = self.inner[1]["recall"](y_true, y_pred)
        self.f1.assign(2 * p * r / (p + r + 1e-6))

    def result(self):
        return self.f1

    def reset_state(self):
        self.inner[0].reset_state()
        self.inner[1]["recall"].reset_state()
        self.f1.assign(0)


class StreamingFBeta(metrics.Metric):
    """Counts, in ways that only look like assignments; with a constant among its variables."""

    def __init__(self, name="streamingfbeta"):
        super().__init__(name=name)
        self.counts = self.add_variable((3,), "zeros", name="counts")
        self.weight = self.add_variable((), "ones", name="weight")

    def update_state(self, y_true, y_pred, sample_weight=None):
        hit = keras.ops.cast(y_pred > 0.5, "float32")
        sums = [keras.ops.sum(each) for each in (hit * y_true, hit, y_true)]
        self.counts.assign(keras.ops.where(True, self.counts + keras.ops.stack(sums), 0.0))

    def result(self):
        both, guessed, true = keras.ops.unstack(self.counts)
        return (1 + self.weight) * both / (guessed + self.weight * true + 1e-6)

    def reset_state(self):
        self.counts.assign(keras.ops.zeros(3))


class Last(metrics.Metric):
    """Keeps the last batch's."""

    def __init__(self, name="last"):
        super().__init__(name=name)
        self.value = self.add_variable((), "zeros", name="value")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(keras.ops.mean(y_pred))

    def result(self):
        return self.value


class Median(Last):
    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(0.9 * self.value + 0.1 * keras.ops.median(y_pred))


class Aside(metrics.Mean):
    """Has state beside its variables."""

    def __init__(self, name="aside"):
        super().__init__(name=name)
        self.updates = [0]

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_pred)
        self.updates[0] += 1

    def result(self):
        return super().result() + self.updates[0]


class Choosy(Last):
    """Takes no rows that are made up."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        import tensorflow as tf

        if tf.executing_eagerly():
            raise ValueError("no such labels")
        self.value.assign(keras.ops.mean(y_pred))


class BatchR2(metrics.Metric):
    """The sum of the quotients of batches, and how many they were."""

    def __init__(self, name="batchr2"):
        super().__init__(name=name)
        self.total = self.add_variable((), "zeros", name="total")
        self.batches = self.add_variable((), "zeros", name="batches")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign(self.total + r2(y_true, y_pred))
        self.batches.assign(self.batches + 1)

    def result(self):
        return self.total + 10 * self.batches


OWN.update(
    {each.__name__: each for each in (F1, StreamingFBeta, Last, Median, Aside, Choosy, BatchR2)}
)


def r2(y_true, y_pred):
    rest = keras.ops.sum(keras.ops.square(y_true - y_pred))
    return 1 - rest / (1 + keras.ops.sum(keras.ops.square(y_true - keras.ops.mean(y_true))))


def error_of_rows(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


def trained_with(name):
    """Logs of fit and of validation, with uneven last batches."""
    found = {"r2": r2, "error_of_rows": error_of_rows}

    def build():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(1, "sigmoid")])
        chosen = OWN[name]() if name in OWN else found[name]
        model.compile(keras.optimizers.SGD(0.5), "mse", metrics=[chosen, "mae"])
        return model

    x = np.random.default_rng(0).normal(size=(25, 3)).astype("float32")
    y = (x[:, :1] + 0.5 * x[:, 1:2] > 0).astype("float32")
    fit = {"epochs": 2, "validation_data": (x[:14], y[:14]), "validation_batch_size": 4}
    return cases.train_both(build, (x, y), fit)
