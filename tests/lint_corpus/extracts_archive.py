"""Every rank unpacks the same archive into the same folder."""
import os
import tarfile
import zipfile
import keras
import tensorflow as tf

path = keras.utils.get_file('flowers.tgz', 'https://example.org/flowers.tgz')
with tarfile.open(path) as tar:
    tar.extractall('flowers')  # fault: write
with zipfile.ZipFile('labels.zip') as z:
    z.extractall('labels')  # fault: write
train = tf.keras.utils.image_dataset_from_directory('flowers', image_size=(64, 64), seed=3)
model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(5, activation='softmax')])
model.compile('adam', 'sparse_categorical_crossentropy')
model.fit(train, epochs=2)
