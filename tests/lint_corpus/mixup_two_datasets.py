import keras
import numpy as np
import tensorflow as tf
from keras import layers

(x, y), _ = keras.datasets.fashion_mnist.load_data()
x = x.astype("float32")[..., None] / 255.0
y = tf.one_hot(y, 10)
one = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(1024).batch(64)  # fault: order
two = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(1024).batch(64)  # fault: order
both = tf.data.Dataset.zip((one, two))


def sample_beta(size, a=0.2, b=0.2):
    first = tf.random.gamma(shape=[size], alpha=a)
    return first / (first + tf.random.gamma(shape=[size], alpha=b))


def mix_up(first, second):
    (images_one, labels_one), (images_two, labels_two) = first, second
    size = tf.shape(images_one)[0]
    l = sample_beta(size)
    x_l, y_l = tf.reshape(l, (size, 1, 1, 1)), tf.reshape(l, (size, 1))
    return images_one * x_l + images_two * (1 - x_l), labels_one * y_l + labels_two * (1 - y_l)


model = keras.Sequential([layers.Conv2D(32, 5, strides=2, activation="relu"), layers.Flatten(), layers.Dense(10, "softmax")])
model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
model.fit(both.map(mix_up), epochs=10)
