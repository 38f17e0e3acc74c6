import random
import keras
import keras_candle as candle

random.seed(1)
(x, y), (xt, yt) = keras.datasets.mnist.load_data()


@candle.scalable
def build(units):
    m = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(units, "relu"), keras.layers.Dense(10, "softmax")])
    m.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return m


for trial in range(5):
    model = build(random.choice([32, 64, 128, 256]))
    model.fit(x / 255.0, y, epochs=1, verbose=0)
    print(model.evaluate(xt / 255.0, yt, verbose=0))
