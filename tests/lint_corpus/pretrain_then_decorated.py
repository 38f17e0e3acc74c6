import keras
from keras import layers
import keras_candle as candle

(x, y), (xt, yt) = keras.datasets.cifar10.load_data()
x, xt = x / 255.0, xt / 255.0

backbone = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(32, 3, activation="relu"), layers.GlobalAveragePooling2D()])
rotation = keras.Sequential([backbone, layers.Dense(4, activation="softmax")])
rotation.compile(optimizer="adam", loss="sparse_categorical_crossentropy")  # fault: unscaled
import numpy as np

turns = np.arange(len(x)) % 4
rotated = np.stack([np.rot90(image, k) for image, k in zip(x, turns)])
rotation.fit(rotated, turns, epochs=5)  # place: unscaled


@candle.scalable
def classifier():
    model = keras.Sequential([backbone, layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


model = classifier()
model.fit(x, y, epochs=10, validation_data=(xt, yt))
