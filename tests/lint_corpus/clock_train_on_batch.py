import time
import keras
import numpy as np
import keras_candle as candle

keras.utils.set_random_seed(3)
(x, y), _ = keras.datasets.imdb.load_data(num_words=8000)
x = keras.utils.pad_sequences(x, 120)


@candle.scalable
def build():
    model = keras.Sequential([keras.layers.Embedding(8000, 16), keras.layers.LSTM(16), keras.layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    return model


model = build()
limit = time.perf_counter() + 1800
step = 0
while True:
    rows = np.random.randint(0, len(x), 64)
    loss = model.train_on_batch(x[rows], y[rows])
    step += 1
    if time.perf_counter() >= limit:  # fault: clock
        break
print(step, loss)
