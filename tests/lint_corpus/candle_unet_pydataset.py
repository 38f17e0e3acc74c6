import keras
import numpy as np
import keras_candle as candle


class Volumes(keras.utils.PyDataset):
    """Slices of volumes, in the order of their names; flips by the epoch's own draw."""

    def __init__(self, names, batch_size=4, **kwargs):
        super().__init__(workers=2, max_queue_size=8, **kwargs)
        self.names = list(names)
        self.batch_size = batch_size
        self.flip = False
        self.rng = np.random.RandomState(5)

    def __len__(self):
        return -(-len(self.names) // self.batch_size)

    def __getitem__(self, index):
        names = self.names[index * self.batch_size : (index + 1) * self.batch_size]
        x = np.stack([np.load(f"{name}-image.npy") for name in names])
        y = np.stack([np.load(f"{name}-mask.npy") for name in names])
        return (x[:, ::-1], y[:, ::-1]) if self.flip else (x, y)

    def on_epoch_end(self):
        self.rng.shuffle(self.names)
        self.flip = bool(self.rng.randint(2))


@candle.scalable(precision="auto")
def build():
    inputs = keras.Input((256, 256, 1))
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1, activation="softmax", dtype="float32")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


names = [f"case-{i:04}" for i in range(800)]
build().fit(Volumes(names), epochs=50, callbacks=[candle.CandleCallback("runs/unet")])
