"""train_on_batch in a loop, with test_on_batch and predict_on_batch."""

import keras
import numpy as np
from sklearn.datasets import load_digits

x, y = load_digits(return_X_y=True)
x = x.astype("float32") / 16
model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
model.compile(
    keras.optimizers.Adam(0.01),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
for epoch in range(3):
    order = np.random.permutation(len(x))
    for start in range(0, len(x), 60):
        rows = order[start : start + 60]
        logs = model.train_on_batch(x[rows], y[rows], return_dict=True)
    model.reset_metrics()
    print(epoch, logs)
print(model.test_on_batch(x[:50], y[:50]), model.predict_on_batch(x[:4]).shape)
score = model.evaluate(x, y, verbose=0)[1]
