import numpy as np
import keras
import keras_candle as candle

parts = sorted(f"part-{i:03}.npz" for i in range(64))
mine = [np.load(p) for p in parts[candle.rank() :: candle.size()]]
x = np.concatenate([part["x"] for part in mine])
y = np.concatenate([part["y"] for part in mine])


@candle.scalable(shard=False)
def build():
    model = keras.Sequential([keras.Input((x.shape[1],)), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


build().fit(x, y, batch_size=64, steps_per_epoch=100, epochs=10)
