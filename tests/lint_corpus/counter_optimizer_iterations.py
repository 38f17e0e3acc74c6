"""The optimizer's iterations are counted right by schedules; a counter for printing harms nobody."""
import keras
import keras_candle as candle


class PrintEvery(keras.callbacks.Callback):
    def __init__(self, every=100):
        super().__init__()
        self.every = every
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if self.batches % self.every == 0:
            print(self.batches, int(self.model.optimizer.iterations))


@candle.scalable
def build():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2000, 4000], [0.1, 0.01, 0.001])
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
    model.compile(keras.optimizers.SGD(schedule), "sparse_categorical_crossentropy")
    return model


(x, y), _ = keras.datasets.mnist.load_data()
build().fit(x.reshape(-1, 784) / 255.0, y, batch_size=64, epochs=5, callbacks=[PrintEvery()])
