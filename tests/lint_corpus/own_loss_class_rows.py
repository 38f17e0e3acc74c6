"""Losses with one value a row, also with sums over classes and pixels."""
import keras
from keras import ops
import keras_candle as candle


class FocalLoss(keras.losses.Loss):
    def __init__(self, gamma=2.0, **kwargs):
        super().__init__(**kwargs)
        self.gamma = gamma

    def call(self, y_true, y_pred):
        p = ops.softmax(y_pred)
        picked = ops.sum(y_true * p, axis=-1)
        return -ops.power(1 - picked, self.gamma) * ops.log(picked + 1e-7)


def soft_iou(y_true, y_pred):
    both = ops.sum(y_true * y_pred, axis=(1, 2, 3))
    either = ops.sum(y_true + y_pred, axis=(1, 2, 3)) - both
    return 1 - both / (either + 1e-6)


@candle.scalable
def two_heads():
    inputs = keras.Input((64, 64, 3))
    h = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    mask = keras.layers.Conv2D(1, 1, activation="sigmoid", name="mask")(h)
    kind = keras.layers.Dense(4, name="kind")(keras.layers.GlobalMaxPooling2D()(h))
    m = keras.Model(inputs, [mask, kind])
    m.compile("adam", loss={"mask": soft_iou, "kind": FocalLoss()})
    return m


import numpy as np

cells = np.load("cells.npz")
two_heads().fit(cells["image"], {"mask": cells["mask"], "kind": cells["kind"]}, epochs=10)
