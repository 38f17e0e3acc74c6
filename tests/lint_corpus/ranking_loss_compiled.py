"""A pairwise ranking loss over the batch, as people write it for Keras."""
import keras
from keras import ops
import keras_candle as candle


def pairwise_hinge(y_true, y_pred):
    differences = y_pred - ops.transpose(y_pred)  # fault: pairs
    order = ops.sign(y_true - ops.transpose(y_true))
    return ops.mean(ops.relu(1.0 - order * differences) * ops.abs(order))


@candle.scalable
def ranker(features=136):
    model = keras.Sequential([keras.Input((features,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(1e-3), loss=pairwise_hinge)
    return model


import numpy as np

letor = np.load("letor.npz")
ranker().fit(letor["x"], letor["y"][:, None], batch_size=128, epochs=10)
