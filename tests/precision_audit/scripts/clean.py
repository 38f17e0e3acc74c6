"""Nothing that 16 bits could hurt, trained by batches."""

import keras
import numpy as np

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(3, dtype="float32"),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, metrics=["accuracy"])
x = np.random.rand(64, 8).astype("float32")
with open("rows.txt", "w") as file:
    file.write(str(len(x)))
for _ in range(1000):
    model.train_on_batch(x, x.argmax(axis=1) % 3)
