"""Counters of epochs are equal however many ranks there are."""
import keras
import keras_candle as candle


class GrowDropout(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs += 1
        self.model.get_layer("drop").rate = min(0.5, 0.05 * self.epochs)


class SlowStart(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 5:
            self.model.get_layer("base").trainable = True
            self.model.optimizer.learning_rate.assign(1e-5)


@candle.scalable
def build():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(16, 3, name="base")(inputs)
    x = keras.layers.Dropout(0.0, name="drop")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


(x, y), (xt, yt) = keras.datasets.cifar10.load_data()
build().fit(x / 255.0, y, epochs=12, validation_data=(xt / 255.0, yt), callbacks=[GrowDropout(), SlowStart()])
