"""Draws that never reach a training."""
import random
import keras
import numpy as np
import matplotlib.pyplot as plt

(x, y), (xt, yt) = keras.datasets.fashion_mnist.load_data()
x, xt = x / 255.0, xt / 255.0
plt.figure(figsize=(5, 5))
for i, k in enumerate(np.random.choice(len(x), 9)):
    plt.subplot(3, 3, i + 1)
    plt.imshow(x[k])
plt.show()

model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=5, validation_data=(xt, yt))
shown = random.sample(range(len(xt)), 5)
print(model.predict(xt[shown]).argmax(axis=1), yt[shown])
