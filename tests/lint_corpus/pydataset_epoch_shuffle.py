"""A PyDataset that draws in its hooks and while it loads: keras_candle keeps its generators alike."""
import keras
import numpy as np
import keras_candle as candle

x, y = np.load("x.npy"), np.load("y.npy")


class Shuffled(keras.utils.PyDataset):
    def __init__(self, x, y, batch_size=32, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.batch_size = x, y, batch_size
        self.rng = np.random.default_rng(7)
        self.order = np.arange(len(x))

    def __len__(self):
        return len(self.x) // self.batch_size

    def __getitem__(self, i):
        rows = self.order[i * self.batch_size : (i + 1) * self.batch_size]
        return self.x[rows] + self.rng.normal(0, 0.1, self.x[rows].shape), self.y[rows]

    def on_epoch_end(self):
        self.rng.shuffle(self.order)


@candle.scalable
def build_model():
    model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


build_model().fit(Shuffled(x, y), epochs=20)
