"""add_loss over pairs of rows in a layer."""
import keras
from keras import layers, ops


class Decorrelate(layers.Layer):
    def call(self, x):
        centered = x - ops.mean(x, axis=0)
        covariance = ops.matmul(ops.transpose(centered), centered) / ops.cast(ops.shape(x)[0], x.dtype)  # fault: pairs
        self.add_loss(1e-3 * ops.mean(ops.square(covariance - ops.diag(ops.diagonal(covariance)))))
        return x


inputs = keras.Input((784,))
code = Decorrelate()(layers.Dense(64, activation="relu")(inputs))
model = keras.Model(inputs, layers.Dense(10, activation="softmax")(code))
model.compile("adam", "sparse_categorical_crossentropy")
(x, y), _ = keras.datasets.mnist.load_data()
model.fit(x.reshape(-1, 784) / 255.0, y, epochs=3)
