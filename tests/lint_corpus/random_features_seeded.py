import keras
import numpy as np
from keras import ops
import keras_candle as candle


class FourierFeatures(keras.layers.Layer):
    def __init__(self, width, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.projection = rng.normal(size=(2, width)).astype("float32")

    def call(self, x):
        return ops.concatenate([ops.sin(x @ self.projection), ops.cos(x @ self.projection)], axis=-1)


class LearnedFeatures(keras.layers.Layer):
    def build(self, shape):
        self.projection = self.add_weight(shape=(shape[-1], 64), initializer="random_normal", trainable=False)

    def call(self, x):
        return ops.sin(x @ self.projection)


@candle.scalable
def field():
    inputs = keras.Input((2,))
    h = ops.concatenate([FourierFeatures(64)(inputs), LearnedFeatures()(inputs)], axis=-1)
    model = keras.Model(inputs, keras.layers.Dense(3)(h))
    model.compile("adam", "mse")
    return model


data = np.load("field.npz")
field().fit(data["where"], data["what"], batch_size=1024, epochs=20)
