"""validation_split with class weights, then sample weights with weighted metrics."""

import keras
import numpy as np
from sklearn.datasets import load_breast_cancer

x, y = load_breast_cancer(return_X_y=True)
x = (x - x.mean(axis=0)) / x.std(axis=0)

model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(1, activation="sigmoid")])
model.compile(
    keras.optimizers.SGD(0.1),
    "binary_crossentropy",
    metrics=["accuracy"],
    weighted_metrics=[keras.metrics.AUC(name="auc")],
)
few, many = np.bincount(y)
model.fit(
    x,
    y,
    epochs=4,
    batch_size=20,
    validation_split=0.2,
    class_weight={0: len(y) / (2 * few), 1: len(y) / (2 * many)},
    verbose=2,
)
weights = np.where(np.random.random(len(y)) < 0.2, 3.0, 1.0)
model.fit(
    x,
    y,
    sample_weight=weights,
    epochs=2,
    batch_size=20,
    steps_per_epoch=20,
    validation_data=(x, y, weights),
    verbose=2,
)
score = model.evaluate(x, y, sample_weight=weights, return_dict=True, verbose=0)["auc"]
