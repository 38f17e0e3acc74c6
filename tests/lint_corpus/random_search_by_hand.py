"""Hyperparameters drawn by hand: ranks would build different models."""
import random
import keras
import keras_candle as candle

(x, y), (xt, yt) = keras.datasets.mnist.load_data()
x, xt = x.reshape(-1, 784) / 255.0, xt.reshape(-1, 784) / 255.0


@candle.scalable
def build(units, rate):
    m = keras.Sequential([keras.Input((784,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(10, "softmax")])
    m.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return m


best = 0.0
for trial in range(10):
    units = random.choice([32, 64, 128, 256])  # fault: model-draw
    rate = 10 ** random.uniform(-4, -2)  # fault: model-draw
    model = build(units, rate)
    model.fit(x, y, epochs=1, verbose=0)
    best = max(best, model.evaluate(xt, yt, verbose=0)[1])
print(best)
