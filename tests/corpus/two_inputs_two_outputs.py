"""Named inputs and outputs, each with its loss, weight and metrics."""

import keras
import numpy as np
from keras import layers

rng = np.random.default_rng()
size = rng.normal(size=(900, 6)).astype("float32")
shape = rng.normal(size=(900, 4)).astype("float32")
price = size.sum(axis=1, keepdims=True) - shape[:, :1]
sort = (size[:, 0] + shape[:, 1] > 0).astype("float32")

size_in, shape_in = keras.Input((6,), name="size"), keras.Input((4,), name="shape")
both = layers.concatenate([layers.Dense(24, activation="relu")(size_in), shape_in])
both = layers.Dense(24, activation="relu")(both)
outputs = {
    "price": layers.Dense(1, name="price")(both),
    "sort": layers.Dense(1, activation="sigmoid", name="sort")(both),
}
model = keras.Model({"size": size_in, "shape": shape_in}, outputs)
model.compile(
    optimizer=keras.optimizers.Adam(0.01),
    loss={"price": "mse", "sort": "binary_crossentropy"},
    loss_weights={"price": 0.5, "sort": 2.0},
    metrics={"price": ["mae"], "sort": ["accuracy", keras.metrics.AUC(name="auc")]},
)
x, y = {"size": size, "shape": shape}, {"price": price, "sort": sort}
model.fit(x, y, batch_size=30, epochs=8, verbose=2)
results = model.evaluate(x, y, return_dict=True, verbose=0)
print(results)
score = results["sort_auc"]
