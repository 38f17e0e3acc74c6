import numpy as np
from tensorflow import keras


class Experiment:
    def __init__(self, epochs=5):
        self.epochs = epochs
        self.rng = np.random.default_rng()  # place: data

    def data(self):
        (x, y), _ = keras.datasets.mnist.load_data()
        order = self.rng.permutation(len(x))  # fault: data
        return x[order] / 255.0, y[order]

    def run(self):
        x, y = self.data()
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(x, y, epochs=self.epochs)


Experiment().run()
