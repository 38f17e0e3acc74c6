import math
import keras
import numpy as np


class Patches(keras.utils.Sequence):
    'Random patches of a big volume'

    def __init__(self, volume, labels, count=4000, batch_size=32):
        super().__init__()
        self.volume, self.labels, self.batch_size = volume, labels, batch_size
        self.centers = np.random.randint(16, volume.shape[0] - 16, size=(count, 3))  # fault: data

    def __len__(self):
        return math.ceil(len(self.centers) / self.batch_size)

    def __getitem__(self, idx):
        chosen = self.centers[idx * self.batch_size:(idx + 1) * self.batch_size]
        x = np.stack([self.volume[a - 16:a + 16, b - 16:b + 16, c - 16:c + 16] for a, b, c in chosen])
        return x[..., None], np.array([self.labels[tuple(c)] for c in chosen])


volume, labels = np.load('ct.npy'), np.load('labels.npy')
model = keras.Sequential([
    keras.Input((32, 32, 32, 1)),
    keras.layers.Conv3D(8, 3, activation='relu'),
    keras.layers.GlobalAveragePooling3D(),
    keras.layers.Dense(4, activation='softmax'),
])
model.compile('adam', 'sparse_categorical_crossentropy')
model.fit(Patches(volume, labels), epochs=10)
