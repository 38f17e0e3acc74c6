"""Momentum contrast: a queue of keys and a momentum encoder."""
import keras
import tensorflow as tf
from keras import layers, ops


class MoCo(keras.Model):
    def __init__(self, query, key, queue_size=4096, dim=64, momentum=0.999):
        super().__init__()
        self.query, self.key = query, key
        self.key.trainable = False
        self.momentum = momentum
        self.queue = self.add_weight(
            shape=(queue_size, dim), initializer="random_normal", trainable=False, name="queue"
        )
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def train_step(self, data):
        view_q, view_k = data
        with tf.GradientTape() as tape:
            q = ops.normalize(self.query(view_q, training=True), axis=1)
            k = ops.normalize(self.key(view_k, training=True), axis=1)
            positive = ops.sum(q * k, axis=1, keepdims=True)
            negative = ops.matmul(q, ops.transpose(ops.convert_to_tensor(self.queue)))
            logits = ops.concatenate([positive, negative], axis=1) / 0.07
            labels = ops.zeros(ops.shape(q)[0], dtype="int32")
            loss = ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
        grads = tape.gradient(loss, self.query.trainable_weights)
        self.optimizer.apply_gradients(zip(grads, self.query.trainable_weights))
        for w, m in zip(self.query.weights, self.key.weights):
            m.assign(self.momentum * m + (1 - self.momentum) * w)
        self.queue.assign(ops.concatenate([k, self.queue[: -ops.shape(k)[0]]], axis=0))  # fault: batch-state
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def encoder():
    return keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(32, 3), layers.Flatten(), layers.Dense(64)])


pairs = tf.data.Dataset.load("pairs").batch(64).prefetch(2)
model = MoCo(encoder(), encoder())
model.compile(optimizer=keras.optimizers.SGD(0.03, momentum=0.9))
model.fit(pairs, epochs=10)
