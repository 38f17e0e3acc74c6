import keras
import numpy as np

keras.utils.set_random_seed(1)


class Pairs(keras.utils.PyDataset):
    def __init__(self, x, y, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 64

    def __getitem__(self, index):
        rng = np.random.default_rng()  # place: generator
        left = rng.integers(0, len(self.x), 64)  # fault: generator
        right = rng.integers(0, len(self.x), 64)  # place: generator
        same = (self.y[left] == self.y[right]).astype("float32")
        return (self.x[left], self.x[right]), same


(x, y), _ = keras.datasets.mnist.load_data()
tower = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(64, activation="tanh")])
a, b = keras.Input((28, 28)), keras.Input((28, 28))
distance = keras.layers.Subtract()([tower(a), tower(b)])
model = keras.Model([a, b], keras.layers.Dense(1, activation="sigmoid")(distance))
model.compile("adam", "binary_crossentropy")
model.fit(Pairs(x / 255.0, y), epochs=2)
