import keras
import keras_candle as candle


class Progress(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if candle.is_root():
            print(f"epoch {epoch}: {logs['loss']:.4f}")


class ConfusionMatrix(keras.callbacks.Callback):
    """Predicts on all ranks, prints on one."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def on_epoch_end(self, epoch, logs=None):
        guesses = self.model.predict(self.x, verbose=0).argmax(axis=1)
        if candle.is_root():
            print((guesses == self.y).mean())


(x, y), (xt, yt) = keras.datasets.mnist.load_data()


@candle.scalable
def mlp():
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


callbacks = [
    keras.callbacks.ModelCheckpoint("ckpt/{epoch}.weights.h5", save_weights_only=True),
    keras.callbacks.TensorBoard("logs"),
    keras.callbacks.BackupAndRestore("backup"),
    Progress(),
    ConfusionMatrix(xt[:1000] / 255.0, yt[:1000]),
]
mlp().fit(x / 255.0, y, epochs=5, callbacks=callbacks)
