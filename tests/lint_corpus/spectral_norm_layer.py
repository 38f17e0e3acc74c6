"""Power iteration on the kernel: its vector is the same on all ranks."""
import keras
from keras import layers, ops


class SpectralConv2D(layers.Layer):
    def __init__(self, filters, size=3, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.size = filters, size

    def build(self, shape):
        self.kernel = self.add_weight(shape=(self.size, self.size, shape[-1], self.filters), initializer="he_normal")
        self.u = self.add_weight(shape=(1, self.filters), initializer="random_normal", trainable=False, name="u")

    def call(self, x, training=False):
        flat = ops.reshape(self.kernel, (-1, self.filters))
        v = ops.normalize(ops.matmul(self.u, ops.transpose(flat)))
        u = ops.normalize(ops.matmul(v, flat))
        sigma = ops.matmul(ops.matmul(v, flat), ops.transpose(u))
        if training:
            self.u.assign(u)
        return ops.conv(x, self.kernel / sigma, padding="same")


(x, y), _ = keras.datasets.cifar10.load_data()
model = keras.Sequential(
    [keras.Input((32, 32, 3)), SpectralConv2D(32), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(10)]
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x / 255.0, y, epochs=5)
