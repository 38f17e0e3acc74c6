"""Few-shot learning with Reptile: inner loops, then a step of the weights by hand."""
import random
import keras
import numpy as np
import tensorflow as tf
from keras import layers

(x, y), _ = keras.datasets.fashion_mnist.load_data()
groups = [x[y == label][..., None] / 255.0 for label in range(10)]


def task(classes=5, shots=5):
    chosen = random.sample(range(10), classes)
    images = np.concatenate([random.choices(groups[c], k=shots) for c in chosen])
    labels = np.repeat(np.arange(classes), shots)
    return tf.data.Dataset.from_tensor_slices((images.astype("float32"), labels)).shuffle(100).batch(25).repeat(4)  # place: order


inputs = layers.Input((28, 28, 1))
h = layers.Conv2D(64, 3, strides=2, activation="relu")(inputs)
model = keras.Model(inputs, layers.Dense(5, activation="softmax")(layers.Flatten()(h)))
optimizer = keras.optimizers.SGD(0.003)
for meta_iter in range(2000):
    old = model.get_weights()
    for images, labels in task():
        with tf.GradientTape() as tape:
            loss = keras.losses.sparse_categorical_crossentropy(labels, model(images))
        grads = tape.gradient(loss, model.trainable_weights)
        optimizer.apply_gradients(zip(grads, model.trainable_weights))  # fault: optimizer
    new = model.get_weights()
    step = 0.25 * (1 - meta_iter / 2000)
    model.set_weights([a + (b - a) * step for a, b in zip(old, new)])
