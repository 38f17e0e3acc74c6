"""The word `stateful` alone is no fault."""
import keras
from keras import layers

STATEFUL = False
stateful_names = ["lstm"]
model = keras.Sequential(
    [
        keras.Input((100, 4)),
        layers.LSTM(32, stateful=False, return_sequences=True),
        layers.LSTM(16, stateful=STATEFUL),
        layers.Dense(1),
    ]
)
model.compile("adam", "mse")
import numpy as np

data = np.load("windows.npz")
model.fit(data["x"], data["y"], epochs=3, batch_size=64)
