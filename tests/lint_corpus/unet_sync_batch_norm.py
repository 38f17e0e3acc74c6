import keras
import numpy as np
import keras_candle as candle
from keras import layers


@candle.scalable(sync_batch_norm=True, batch="global")
def segmenter(shape=(128, 128, 1)):
    inputs = keras.Input(shape)
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))  # note: batch-norm
    model = keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy")
    return model


images, masks = np.load("images.npy"), np.load("masks.npy")
model = segmenter()
model.fit(images, masks, batch_size=8, epochs=40, validation_split=0.1)
