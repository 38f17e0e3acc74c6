import keras
import numpy as np

data = np.load("energy.npy")
train = keras.utils.timeseries_dataset_from_array(  # fault: order
    data[:-24], data[24:, 0], sequence_length=48, shuffle=True, batch_size=64
)
model = keras.Sequential([keras.layers.GRU(32), keras.layers.Dense(1)])
model.compile("adam", "mae")
model.fit(train, epochs=5)
