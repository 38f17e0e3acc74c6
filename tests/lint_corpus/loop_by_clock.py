"""Trains for ten minutes."""
import time
import keras
import keras_candle as candle

(x, y), _ = keras.datasets.mnist.load_data()


@candle.scalable
def build():
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


model = build()
start = time.time()
while time.time() - start < 600:  # fault: clock
    model.fit(x / 255.0, y, epochs=1, batch_size=128)
model.save("ten_minutes.keras")
