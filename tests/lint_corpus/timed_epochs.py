"""Measures time without deciding by it."""
import time
import keras
import keras_candle as candle


class Timer(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.times = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.times.append(time.perf_counter() - self.start)


@candle.scalable
def lenet():
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(6, 5, activation="tanh"),
            keras.layers.AveragePooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(84, activation="tanh"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


(x, y), _ = keras.datasets.mnist.load_data()
timer = Timer()
begin = time.time()
lenet().fit(x[..., None] / 255.0, y, epochs=5, callbacks=[timer])
print(sum(timer.times), time.time() - begin)
