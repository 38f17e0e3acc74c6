import numpy as np
import keras
from keras_candle import rank, scalable, size

x, y = np.load("features.npy"), np.load("labels.npy")
per_rank = len(x) // size()
x = x[rank() * per_rank : (rank() + 1) * per_rank]  # fault: sharded
y = y[rank() * per_rank : (rank() + 1) * per_rank]  # fault: sharded


@scalable(sync_batch_norm=True)
def mlp():
    model = keras.Sequential(
        [keras.Input((x.shape[1],)), keras.layers.Dense(64), keras.layers.ReLU(), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    return model


mlp().fit(x, y, batch_size=64, epochs=10)
