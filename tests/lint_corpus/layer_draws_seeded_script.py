"""The same kind of layer in a script that sets all seeds."""
import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(20)


class FixedProjection(layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.matrix = np.random.normal(size=(64, width)).astype("float32") / 8.0

    def call(self, x):
        return keras.ops.matmul(x, self.matrix)


from sklearn.datasets import load_digits

x, y = load_digits(return_X_y=True)
model = keras.Sequential([keras.Input((64,)), FixedProjection(16), layers.Dense(10, "softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(x / 16, y, epochs=20)
