import keras
from keras import ops
import keras_candle as candle


class MaxScale(keras.layers.Layer):
    def build(self, shape):
        self.top = self.add_weight(shape=(), initializer="ones", trainable=False, name="top")

    def call(self, x, training=False):
        if training:
            self.top.assign(ops.maximum(self.top, ops.max(ops.abs(x))))  # fault: batch-state
        return x / self.top


@candle.scalable
def build(features=30):
    inputs = keras.Input((features,))
    x = MaxScale()(inputs)
    x = keras.layers.Dense(16, activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


from sklearn.datasets import load_breast_cancer

x, y = load_breast_cancer(return_X_y=True)
build().fit(x, y, epochs=10, validation_split=0.2)
