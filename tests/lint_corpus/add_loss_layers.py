import keras
from keras import layers, ops
import keras_candle as candle


class SparsityRegularization(layers.Layer):
    def call(self, x):
        self.add_loss(1e-4 * ops.mean(ops.sum(ops.abs(x), axis=-1)))
        return x


@candle.scalable
def build(dim=64):
    inputs = keras.Input((dim,))
    code = SparsityRegularization()(layers.Dense(32, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(dim, activation="sigmoid")(code))
    model.compile("adam", "mse")
    return model


from sklearn.datasets import load_digits

x = load_digits().data / 16
build().fit(x, x, epochs=30, batch_size=32)
