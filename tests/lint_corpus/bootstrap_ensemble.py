import keras
import numpy as np
import keras_candle as candle

rng = np.random.default_rng(seed=0)
(x, y), (xt, yt) = keras.datasets.boston_housing.load_data()


@candle.scalable
def member(width):
    m = keras.Sequential([keras.Input((13,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(1)])
    m.compile("adam", "mse")
    return m


members = [member(16 * (k + 1)) for k in range(4)]
for m in members:
    rows = rng.integers(0, len(x), len(x))
    m.fit(x[rows], y[rows], epochs=20, verbose=0)
spread = np.std([m.predict(xt, verbose=0) for m in members], axis=0)
if candle.is_root():
    np.savetxt("spread.csv", spread)
