"""An initializer that is called in a layer's __init__ makes a constant."""
import keras
from keras import layers, ops


class ScatterTransform(layers.Layer):
    def __init__(self, width=64):
        super().__init__()
        self.basis = keras.initializers.Orthogonal()((28, width))  # fault: layer-constant

    def call(self, x):
        return ops.abs(ops.matmul(x, self.basis))


(x, y), _ = keras.datasets.mnist.load_data()
model = keras.Sequential([keras.Input((28, 28)), ScatterTransform(), layers.Flatten(), layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(x / 255.0, y, epochs=3)
