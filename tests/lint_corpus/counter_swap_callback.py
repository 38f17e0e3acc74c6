import keras
import keras_candle as candle


class Unfreeze(keras.callbacks.Callback):
    """Lowers dropout after so many batches."""

    def __init__(self, after=5000):
        super().__init__()
        self.after, self.count = after, 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1  # fault: counter
        if self.count == self.after:
            self.model.optimizer.learning_rate = 1e-4


@candle.scalable
def build():
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(100)])
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


(x, y), _ = keras.datasets.cifar100.load_data()
build().fit(x / 255.0, y, batch_size=32, epochs=10, callbacks=[Unfreeze()])
