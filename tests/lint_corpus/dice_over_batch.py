"""A Dice loss summed over the whole batch."""
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers


def dice_loss(y_true, y_pred, smooth=1.0):
    y_true, y_pred = tf.reshape(y_true, [-1]), tf.reshape(y_pred, [-1])  # place: pairs
    intersection = tf.reduce_sum(y_true * y_pred)  # fault: pairs
    return 1 - (2 * intersection + smooth) / (tf.reduce_sum(y_true) + tf.reduce_sum(y_pred) + smooth)  # place: pairs


inputs = layers.Input((128, 128, 1))
outputs = layers.Conv2D(1, 1, activation='sigmoid')(layers.Conv2D(16, 3, padding='same', activation='relu')(inputs))
model = keras.Model(inputs, outputs)
model.compile(optimizer='adam', loss=dice_loss, metrics=['accuracy'])
import numpy as np

slices = np.load('slices.npz')
model.fit(slices['x'], slices['y'], batch_size=8, epochs=20, validation_split=0.2)
