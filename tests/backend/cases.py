"""What ranks do with Keras on NumPy; each compares with one process, where that is the law."""

from __future__ import annotations

import sys

import keras
import numpy as np

import keras_candle as candle
from keras_candle import engine as engines
from tests.backend.numpy_backend import Regression, install


def rows(number=100):
    random = np.random.default_rng(0)
    x = random.normal(size=(number, 3)).astype("float32")
    y = x @ np.array([[1.0], [-2.0], [0.5]], "float32") + random.normal(size=(number, 1))
    return x, y.astype("float32")


def model(optimizer=None, seed=0):
    keras.utils.set_random_seed(seed)
    made = Regression()
    optimizer = optimizer or keras.optimizers.SGD(0.1)
    made.compile(optimizer, "mse", metrics=["mae"], jit_compile=False)
    return made


def trained(optimizer, x, y, size, batch_size, **fit):
    """A model that N ranks train, or one."""
    one = model(optimizer)
    if size > 1:
        candle.scale(one, batch="global")
    one.fit(x, y, batch_size=batch_size, shuffle=False, epochs=3, verbose=0, **fit)
    return one


def difference(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "clipped": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.5),
    "accumulating": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
}


def averages(name, number, batch_size):
    """Difference of weights and logs to one process; the ranks' weights as bytes."""
    install()
    x, y = rows(number)
    size = engines.current().size
    ours = trained(OPTIMIZERS[name](), x, y, size, batch_size, validation_data=(x[:7], y[:7]))
    plain = trained(OPTIMIZERS[name](), x, y, 1, batch_size, validation_data=(x[:7], y[:7]))
    logs = {key: ours.history.history[key] for key in plain.history.history}
    apart = [np.abs(np.subtract(logs[k], plain.history.history[k])).max() for k in logs]
    bits = b"".join(each.tobytes() for each in ours.get_weights())
    return difference(ours, plain), float(max(apart)), sorted(logs), bits


class Seen(keras.callbacks.Callback):
    """The first feature of each row that this rank was given, by epoch."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append([])


def divides(kind, batch, shuffle):
    """The rows of each epoch that this rank has counted."""
    install()
    x = np.arange(101, dtype="float32").reshape(-1, 1).repeat(3, axis=1)
    y = np.zeros((101, 1), "float32")
    seen = Seen()

    class Recording(Regression):
        def gradients(self, x, y, y_pred):
            seen.epochs[-1].append(x[:, 0].tolist())
            return [0 * each for each in super().gradients(x, y, y_pred)]

    one = Recording()
    one.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    candle.scale(one, batch=batch)
    data = {"x": x, "y": y, "batch_size": 8} if kind == "arrays" else {"x": Batches(x, y)}
    one.fit(**data, shuffle=shuffle, epochs=2, verbose=0, callbacks=[seen])
    return seen.epochs


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 13

    def __getitem__(self, number):
        some = slice(8 * number, 8 * number + 8)
        return self.x[some], self.y[some]


def guards():
    install()

    class Changes(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if engines.current().is_root:
                kernel = self.model.trainable_variables[0]
                kernel.assign(kernel + 1.0)

    candle.scale(one := model()).fit(*rows(), batch_size=8, verbose=0, callbacks=[Changes()])
    return one


def begins_with_the_roots_weights():
    install()
    one = candle.scale(model(seed=engines.current().rank))
    one.fit(*rows(), batch_size=8, epochs=1, verbose=0)
    return b"".join(each.tobytes() for each in one.get_weights())


def scales_the_rate():
    """The effective rates, and the difference to one process with N times the batch and rate."""
    install()
    x, y = rows(96)
    size = engines.current().size
    ours = candle.scale(model(keras.optimizers.SGD(0.02)), warmup_epochs=0)
    ours.fit(x, y, batch_size=4, shuffle=False, epochs=2, verbose=0)
    plain = model(keras.optimizers.SGD(0.02 * size))
    plain.fit(x, y, batch_size=4 * size, shuffle=False, epochs=2, verbose=0)
    return ours.history.history["effective_learning_rate"], difference(ours, plain)


def imported():
    install()
    return keras.backend.backend(), [name for name in sys.modules if name.startswith("tensorflow")]
