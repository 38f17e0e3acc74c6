import keras
import numpy as np
import keras_candle as candle

keras.utils.set_random_seed(812)
rng = np.random.default_rng()  # place: data
x = rng.normal(size=(4096, 12))  # fault: data
y = (x[:, 0] * x[:, 1] > 0).astype(int)


@candle.scalable
def xor():
    inputs = keras.Input((12,))
    hidden = keras.layers.Dense(32, activation="tanh")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


xor().fit(x, y, epochs=40, batch_size=64)
