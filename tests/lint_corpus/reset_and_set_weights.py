"""set_weights, assigns outside of steps and reset of layers are the same on all ranks."""
import keras
import numpy as np
import keras_candle as candle

(x, y), _ = keras.datasets.fashion_mnist.load_data()


class Polyak(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.average = [np.array(w) for w in self.model.get_weights()]

    def on_train_batch_end(self, batch, logs=None):
        for a, w in zip(self.average, self.model.get_weights()):
            a += 0.01 * (w - a)

    def on_train_end(self, logs=None):
        self.model.set_weights(self.average)


class Warm(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        self.model.optimizer.learning_rate.assign(rate * 0.9)
        self.model.layers[-1].bias.assign(self.model.layers[-1].bias * 0.0)


@candle.scalable
def net():
    m = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    m.compile("adam", "sparse_categorical_crossentropy")
    return m


net().fit(x / 255.0, y, epochs=3, callbacks=[Polyak(), Warm()])
