"""Image similarity with a siamese network and triplet loss."""
import numpy as np
import tensorflow as tf
from pathlib import Path
from keras import layers, metrics, Model, optimizers
import keras

target_shape = (200, 200)
anchor_paths = sorted(str(p) for p in Path("left").glob("*.jpg"))
positive_paths = sorted(str(p) for p in Path("right").glob("*.jpg"))

rng = np.random.RandomState(seed=42)
rng.shuffle(anchor_paths)
negative_paths = anchor_paths + positive_paths
np.random.RandomState(seed=32).shuffle(negative_paths)


def read(path):
    image = tf.image.decode_jpeg(tf.io.read_file(path), channels=3)
    return tf.image.resize(tf.image.convert_image_dtype(image, tf.float32), target_shape)


anchors = tf.data.Dataset.from_tensor_slices(anchor_paths)
positives = tf.data.Dataset.from_tensor_slices(positive_paths)
negatives = tf.data.Dataset.from_tensor_slices(negative_paths).shuffle(buffer_size=4096)  # fault: order
dataset = tf.data.Dataset.zip((anchors, positives, negatives)).map(lambda a, p, n: (read(a), read(p), read(n)))
train = dataset.batch(32, drop_remainder=False).prefetch(8)


class SiameseModel(Model):
    def __init__(self, network, margin=0.5):
        super().__init__()
        self.network = network
        self.margin = margin
        self.loss_tracker = metrics.Mean(name="loss")

    def train_step(self, data):
        with tf.GradientTape() as tape:
            a, p, n = (self.network(part) for part in data)
            ap = tf.reduce_sum(tf.square(a - p), -1)
            an = tf.reduce_sum(tf.square(a - n), -1)
            loss = tf.maximum(ap - an + self.margin, 0.0)
        gradients = tape.gradient(loss, self.network.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.network.trainable_weights))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


network = keras.Sequential([keras.Input(target_shape + (3,)), layers.GlobalAveragePooling2D(), layers.Dense(256)])
siamese_model = SiameseModel(network)
siamese_model.compile(optimizer=optimizers.Adam(0.0001))
siamese_model.fit(train, epochs=10)
