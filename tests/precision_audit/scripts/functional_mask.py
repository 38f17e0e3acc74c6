"""A functional model whose mask takes the dtype of what it masks."""

import keras
import numpy as np
from keras import layers, ops

keras.utils.set_random_seed(0)
inputs = keras.Input((8,))
scores = layers.Dense(8, name="scores")(inputs)
masked = scores + ops.cast(ops.less(scores, 0.0), scores.dtype) * -1e9
weights = layers.Softmax(name="weights")(masked)
model = keras.Model(inputs, layers.Dense(1, name="answer")(weights))
model.compile("adam", "mse")
model.fit(np.random.rand(64, 8), np.random.rand(64), batch_size=16)
