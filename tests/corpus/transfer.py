"""Freeze a base, train what stands on it, thaw it, compile again and train everything."""

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

x, y = load_digits(return_X_y=True)
x = x.astype("float32") / 16

base = keras.Sequential(
    [keras.Input((64,)), layers.Dense(32, activation="relu"), layers.BatchNormalization()]
)
small = keras.Sequential([base, layers.Dense(2, activation="softmax")])
small.compile("adam", "sparse_categorical_crossentropy")
small.fit(x, y % 2, epochs=2, batch_size=32, verbose=0)

base.trainable = False
frozen = [weight.numpy() for weight in base.weights]
inputs = keras.Input((64,))
outputs = layers.Dense(10, activation="softmax")(base(inputs, training=False))
model = keras.Model(inputs, outputs)
model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=3, batch_size=32, verbose=2)
for before, weight in zip(frozen, base.weights, strict=True):
    np.testing.assert_array_equal(before, weight.numpy())

base.trainable = True
model.compile(keras.optimizers.Adam(0.001), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=3, batch_size=32, verbose=2)
score = model.evaluate(x, y, verbose=0)[1]
models = [small, model]
