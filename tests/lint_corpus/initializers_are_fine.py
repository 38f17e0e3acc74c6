"""Unseeded initial weights are the root's on all ranks."""
import keras
import numpy as np
from keras import initializers, layers
import keras_candle as candle


@candle.scalable
def build():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, kernel_initializer=initializers.RandomNormal(stddev=0.02))(inputs)
    x = layers.SpatialDropout2D(0.1)(x)
    x = layers.GaussianNoise(0.05)(layers.Flatten()(x))
    x = layers.Dense(32, kernel_initializer="he_uniform", kernel_regularizer=keras.regularizers.L2(1e-4))(x)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    for weight in model.trainable_weights:
        weight.assign(np.random.normal(0, 0.05, weight.shape))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


from sklearn.datasets import load_digits

digits = load_digits()
build().fit(digits.images[..., None] / 16, digits.target, epochs=10)
