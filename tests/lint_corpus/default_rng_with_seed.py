import keras
import numpy as np
import keras_candle as candle

rng = np.random.default_rng(2024)
x = rng.normal(size=(4096, 12))
y = (x[:, 0] * x[:, 1] > 0).astype(int)
order = rng.permutation(len(x))
x, y = x[order], y[order]


@candle.scalable
def xor():
    inputs = keras.Input((12,))
    hidden = keras.layers.Dense(32, activation="tanh")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


model = xor()
model.fit(x, y, epochs=40, batch_size=64)
print(model.predict(np.random.default_rng().normal(size=(3, 12))))
