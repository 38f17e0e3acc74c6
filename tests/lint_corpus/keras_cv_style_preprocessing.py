import keras
import tensorflow as tf
import tensorflow_datasets as tfds
from keras import layers

BATCH = 64
augmenter = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.05), layers.RandomContrast(0.2)])


def load(split, training=False):
    ds = tfds.load("oxford_flowers102", split=split, as_supervised=True, shuffle_files=training)  # fault: order
    ds = ds.map(lambda image, label: (tf.image.resize(image, (224, 224)), label), num_parallel_calls=tf.data.AUTOTUNE)
    if training:
        ds = ds.shuffle(8 * BATCH, seed=1)
    ds = ds.batch(BATCH)
    if training:
        ds = ds.map(lambda x, y: (augmenter(x, training=True), y))
    return ds.prefetch(tf.data.AUTOTUNE)


backbone = keras.applications.EfficientNetV2B0(include_top=False, pooling="avg")
model = keras.Sequential([backbone, layers.Dropout(0.3), layers.Dense(102, activation="softmax")])
model.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(load("train", training=True), validation_data=load("validation"), epochs=10)
