import keras
import numpy as np
import keras_candle as candle
from keras import layers


def conv_block(x, filters):
    x = layers.Conv2D(filters, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)  # note: batch-norm
    return layers.Activation("relu")(x)


@candle.scalable
def unet(shape=(128, 128, 1)):
    inputs = keras.Input(shape)
    skips, x = [], inputs
    for filters in (16, 32, 64):
        x = conv_block(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = conv_block(x, 128)
    for filters, skip in zip((64, 32, 16), reversed(skips)):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = conv_block(layers.concatenate([x, skip]), filters)
    model = keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy", metrics=[keras.metrics.BinaryIoU()])
    return model


images, masks = np.load("images.npy"), np.load("masks.npy")
cut = int(0.9 * len(images))
model = unet()
model.fit(images[:cut], masks[:cut], batch_size=8, epochs=40, validation_data=(images[cut:], masks[cut:]))
