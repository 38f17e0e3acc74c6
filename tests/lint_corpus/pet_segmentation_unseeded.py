import glob
import random
import keras
import numpy as np
import keras_candle as candle
from keras import layers

paths = sorted(glob.glob("images/*.jpg"))
random.shuffle(paths)  # fault: data
train_paths, val_paths = paths[500:], paths[:500]


class Images(keras.utils.PyDataset):
    def __init__(self, paths, batch_size=16, **kwargs):
        super().__init__(**kwargs)
        self.paths = paths
        self.batch_size = batch_size

    def __len__(self):
        return len(self.paths) // self.batch_size

    def __getitem__(self, index):
        chosen = self.paths[index * self.batch_size : (index + 1) * self.batch_size]
        x = np.stack([np.asarray(keras.utils.load_img(p, target_size=(64, 64))) for p in chosen])
        return x / 255.0, np.array([int("cat" in p) for p in chosen])

    def on_epoch_end(self):
        random.shuffle(self.paths)


@candle.scalable
def build():
    model = keras.Sequential([keras.Input((64, 64, 3)), layers.Conv2D(8, 3), layers.GlobalMaxPooling2D(), layers.Dense(1)])
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    return model


build().fit(Images(train_paths), validation_data=Images(val_paths), epochs=5)
