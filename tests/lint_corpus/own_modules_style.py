"""The style of a project: settings in a class, everything behind methods."""
import dataclasses
import numpy as np
from tensorflow import keras


@dataclasses.dataclass
class Config:
    epochs: int = 12
    batch: int = 32
    seed: int = 17


class Experiment:
    def __init__(self, config):
        self.config = config
        self.rng = np.random.default_rng(config.seed)

    def data(self):
        (x, y), held_out = keras.datasets.mnist.load_data()
        order = self.rng.permutation(len(x))
        return x[order] / 255.0, y[order]

    def model(self):
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    def run(self):
        x, y = self.data()
        model = self.model()
        return model.fit(x, y, batch_size=self.config.batch, epochs=self.config.epochs)


if __name__ == "__main__":
    Experiment(Config()).run()
