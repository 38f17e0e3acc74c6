"""Callbacks as scripts write them: one that writes a file, one that stops, one that tells."""

import keras
import numpy as np

x = np.random.normal(size=(600, 10)).astype("float32")
y = x @ np.arange(10.0)[:, np.newaxis]


class Journal(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.file = open("journal.txt", "w")

    def on_epoch_end(self, epoch, logs=None):
        self.file.write(f"{epoch} {logs['loss']:.4f}\n")

    def on_train_end(self, logs=None):
        self.file.close()


class StopAtBatch(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.stop_at = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        print(
            "learning rate", float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        )

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.stop_at:
            self.model.stop_training = True


class Halve(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 4:
            self.model.optimizer.learning_rate = self.model.optimizer.learning_rate / 2


class KeepBest(keras.callbacks.Callback):
    best, weights = np.inf, None

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_loss"] < self.best:
            self.best, self.weights = logs["val_loss"], self.model.get_weights()
        self.model.save_weights("last.weights.h5")

    def on_train_end(self, logs=None):
        self.model.set_weights(self.weights)


model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
model.compile(keras.optimizers.Adam(0.02), "mse")
callbacks = [Journal(), StopAtBatch(epoch=7, batch=2), Halve(), KeepBest()]
history = model.fit(x, y, batch_size=20, epochs=20, validation_split=0.2, callbacks=callbacks)
with open("journal.txt") as file:
    assert len(file.readlines()) == len(history.history["loss"]) == 8
score = 1 - model.evaluate(x, y, verbose=0) / y.var()
