"""U-Net segmentation with files listed by name."""
import os
import random
import keras
import numpy as np
from keras import layers
from keras.utils import load_img

input_dir, target_dir = "images/", "annotations/trimaps/"
input_img_paths = sorted(os.path.join(input_dir, f) for f in os.listdir(input_dir) if f.endswith(".jpg"))
target_img_paths = sorted(os.path.join(target_dir, f) for f in os.listdir(target_dir) if f.endswith(".png"))
random.Random(1337).shuffle(input_img_paths)
random.Random(1337).shuffle(target_img_paths)
val_samples = 1000


class OxfordPets(keras.utils.PyDataset):
    """Iterates over the data as NumPy arrays."""

    def __init__(self, batch_size, img_size, paths, targets, **kwargs):
        super().__init__(**kwargs)
        self.batch_size, self.img_size = batch_size, img_size
        self.paths, self.targets = paths, targets

    def __len__(self):
        return len(self.targets) // self.batch_size

    def __getitem__(self, idx):
        i = idx * self.batch_size
        x = np.zeros((self.batch_size,) + self.img_size + (3,), dtype="float32")
        for j, path in enumerate(self.paths[i : i + self.batch_size]):
            x[j] = load_img(path, target_size=self.img_size)
            if np.random.rand() < 0.5:
                x[j] = x[j][:, ::-1]
        y = np.zeros((self.batch_size,) + self.img_size + (1,), dtype="uint8")
        for j, path in enumerate(self.targets[i : i + self.batch_size]):
            y[j] = np.expand_dims(load_img(path, target_size=self.img_size, color_mode="grayscale"), 2) - 1
        return x, y


inputs = keras.Input((160, 160, 3))
x = layers.Conv2D(32, 3, activation="relu", padding="same")(inputs)
model = keras.Model(inputs, layers.Conv2D(3, 3, activation="softmax", padding="same")(x))
model.compile(optimizer="rmsprop", loss="sparse_categorical_crossentropy")
train = OxfordPets(32, (160, 160), input_img_paths[:-val_samples], target_img_paths[:-val_samples])
val = OxfordPets(32, (160, 160), input_img_paths[-val_samples:], target_img_paths[-val_samples:])
callbacks = [keras.callbacks.ModelCheckpoint("oxford_segmentation.keras", save_best_only=True)]
model.fit(train, epochs=15, validation_data=val, callbacks=callbacks)
