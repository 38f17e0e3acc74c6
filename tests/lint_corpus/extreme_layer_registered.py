import keras
import keras_candle as candle
from keras import ops


class MaxScale(keras.layers.Layer):
    def build(self, shape):
        self.top = self.add_weight(shape=(), initializer="ones", trainable=False, name="top")

    def call(self, x, training=False):
        if training:
            self.top.assign(ops.maximum(self.top, ops.max(ops.abs(x))))
        return x / self.top


candle.register_state_reduction(MaxScale, {"top": "max"})


@candle.scalable
def build(features=30):
    model = keras.Sequential([keras.Input((features,)), MaxScale(), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


from sklearn.datasets import load_diabetes

x, y = load_diabetes(return_X_y=True)
build(x.shape[1]).fit(x, y, epochs=10)
