"""A PyDataset with workers, and one of its own length for validation."""

import math

import keras
import numpy as np


class Points(keras.utils.PyDataset):
    def __init__(self, rows, batch_size, **kwargs):
        super().__init__(**kwargs)
        self.x = np.random.normal(size=(rows, 6)).astype("float32")
        self.y = (self.x[:, 0] > self.x[:, 1]).astype("float32")
        self.batch_size = batch_size
        self.order = np.arange(rows)

    def __len__(self):
        return math.ceil(len(self.x) / self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.x[rows], self.y[rows]

    def on_epoch_end(self):
        self.order = self.order[::-1]


model = keras.Sequential(
    [keras.layers.Dense(12, activation="relu"), keras.layers.Dense(1, activation="sigmoid")]
)
model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
training, validation = Points(500, 16, workers=2), Points(70, 16)
model.fit(training, epochs=6, validation_data=validation, verbose=2)
score = model.evaluate(validation, verbose=0)[1]
