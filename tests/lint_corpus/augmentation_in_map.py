"""Draws of tf.data's map and of layers: another one for each rank is what one wants."""
import keras
import tensorflow as tf
from keras import layers

(x, y), (xt, yt) = keras.datasets.cifar10.load_data()


def augment(image, label):
    image = tf.image.random_flip_left_right(image)
    image = tf.image.random_brightness(image, 0.1)
    image = image + tf.random.normal(tf.shape(image), stddev=0.02)
    return image, label


train = tf.data.Dataset.from_tensor_slices((x / 255.0, y)).shuffle(50_000, seed=1).map(augment).batch(128)
model = keras.Sequential(
    [
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.Conv2D(32, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(train, epochs=10, validation_data=(xt / 255.0, yt))
