import keras
import numpy as np
import keras_candle as candle

features, labels = np.load("features.npy"), np.load("labels.npy")
train, held_out = keras.utils.split_dataset((features, labels), left_size=0.8, shuffle=True)  # fault: data, order


@candle.scalable
def net():
    m = keras.Sequential([keras.Input((features.shape[1],)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)])
    m.compile("adam", "mae")
    return m


net().fit(train.batch(32), validation_data=held_out.batch(32), epochs=8)
