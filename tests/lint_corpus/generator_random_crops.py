import random
import numpy as np
from tensorflow.keras.layers import Conv2D, Input
from tensorflow.keras.models import Model

images = np.load('train_images.npy')
masks = np.load('train_masks.npy')


def random_crop(image, mask, size=96):
    top = random.randint(0, image.shape[0] - size)  # fault: generator
    left = random.randint(0, image.shape[1] - size)  # fault: generator
    return image[top:top + size, left:left + size], mask[top:top + size, left:left + size]


def train_generator(batch_size):
    while True:
        xs, ys = [], []
        for i in range(batch_size):
            k = random.randrange(len(images))  # fault: generator
            x, y = random_crop(images[k], masks[k])
            xs.append(x)
            ys.append(y)
        yield np.array(xs), np.array(ys)


inputs = Input((96, 96, 1))
out = Conv2D(1, 1, activation='sigmoid')(Conv2D(16, 3, activation='relu', padding='same')(inputs))
model = Model(inputs, out)
model.compile(optimizer='adam', loss='binary_crossentropy')
model.fit(train_generator(8), steps_per_epoch=200, epochs=20)
