"""Many sigmoids in a row: gradients that float16 holds only when the loss is scaled."""

import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(0)
keras.config.set_dtype_policy("mixed_float16")
model = keras.Sequential([keras.Input((8,))])
for _ in range(9):
    model.add(layers.Dense(8, activation="sigmoid"))
model.add(layers.Dense(1))
model.compile("sgd", "mse")
x = np.random.rand(64, 8)
model.fit(x, 0.01 * x.sum(axis=1), batch_size=32)
