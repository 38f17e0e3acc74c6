"""PointNet's regulariser multiplies a matrix of each row with itself; another one multiplies weights."""
import keras
from keras import layers, ops


class OrthogonalRegularizer(keras.regularizers.Regularizer):
    def __init__(self, num_features, l2reg=0.001):
        self.num_features, self.l2reg = num_features, l2reg
        self.eye = ops.eye(num_features)

    def __call__(self, x):
        x = ops.reshape(x, (-1, self.num_features, self.num_features))
        xxt = ops.tensordot(x, x, axes=(2, 2))
        xxt = ops.reshape(xxt, (-1, self.num_features, self.num_features))
        return ops.sum(self.l2reg * ops.square(xxt - self.eye))


class Decorrelated(layers.Dense):
    def call(self, x):
        gram = ops.matmul(ops.transpose(self.kernel), self.kernel)
        self.add_loss(1e-3 * ops.sum(ops.square(gram - ops.eye(self.units))))
        return super().call(x)


inputs = keras.Input((2048, 3))
x = layers.Conv1D(32, 1, activation="relu")(inputs)
x = layers.GlobalMaxPooling1D()(x)
x = Decorrelated(64, activation="relu")(x)
model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
model.compile("adam", "sparse_categorical_crossentropy", metrics=["sparse_categorical_accuracy"])
import numpy as np

clouds = np.load("modelnet10.npz")
model.fit(clouds["points"], clouds["labels"], batch_size=32, epochs=20)
