"""Generators that draw nothing, or from the script's own seed."""
import keras
import numpy as np

np.random.seed(3)
files = [f"shard-{i}.npz" for i in range(20)]


def batches(files, size=32, augment=True):
    while True:
        for name in files:
            with np.load(name) as shard:
                x, y = shard["x"], shard["y"]
            for start in range(0, len(x), size):
                part = x[start : start + size]
                if augment:
                    part = part + np.random.normal(0, 0.01, part.shape)
                yield part, y[start : start + size]


model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(batches(files), steps_per_epoch=400, epochs=5, validation_data=batches(files[:2], augment=False), validation_steps=10)
