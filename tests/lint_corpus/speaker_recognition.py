"""Files shuffled by RandomState with the same seed, noise added in the map."""
import os
import keras
import numpy as np
import tensorflow as tf
from pathlib import Path

SHUFFLE_SEED = 43
paths, labels = [], []
for label, name in enumerate(sorted(os.listdir("audio"))):
    speakers = [str(p) for p in sorted((Path("audio") / name).glob("*.wav"))]
    paths += speakers
    labels += [label] * len(speakers)
np.random.RandomState(SHUFFLE_SEED).shuffle(paths)
np.random.RandomState(SHUFFLE_SEED).shuffle(labels)
cut = int(0.9 * len(paths))
noises = tf.constant(np.load("noises.npy"))


def audio(path):
    return tf.audio.decode_wav(tf.io.read_file(path), 1, 16000)[0]


def dataset(paths, labels):
    return tf.data.Dataset.zip((tf.data.Dataset.from_tensor_slices(paths).map(audio), tf.data.Dataset.from_tensor_slices(labels)))


def add_noise(sound, scale=0.5):
    index = tf.random.uniform((tf.shape(sound)[0],), 0, noises.shape[0], dtype=tf.int32)
    return sound + scale * tf.gather(noises, index)


train = dataset(paths[:cut], labels[:cut]).shuffle(128 * 8, seed=SHUFFLE_SEED).batch(128)
train = train.map(lambda x, y: (add_noise(x), y), num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
valid = dataset(paths[cut:], labels[cut:]).shuffle(32 * 8, seed=SHUFFLE_SEED).batch(32)
model = keras.Sequential([keras.layers.Conv1D(16, 3, strides=4), keras.layers.GlobalMaxPooling1D(), keras.layers.Dense(5, "softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
best = keras.callbacks.ModelCheckpoint("model.keras", monitor="val_accuracy", save_best_only=True)
model.fit(train, epochs=5, validation_data=valid, callbacks=[best])
