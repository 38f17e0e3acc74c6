import keras
import tensorflow as tf
from base import ContrastiveModel


class SimCLR(ContrastiveModel):
    def contrastive_loss(self, first, second):
        a, b = tf.math.l2_normalize(first, axis=1), tf.math.l2_normalize(second, axis=1)
        similarities = tf.matmul(a, b, transpose_b=True) / self.temperature  # fault: pairs
        labels = tf.range(tf.shape(first)[0])
        losses = keras.losses.sparse_categorical_crossentropy(labels, similarities, from_logits=True)
        return tf.reduce_mean(losses)


class BarlowTwins(ContrastiveModel):
    def contrastive_loss(self, first, second):
        a = (first - tf.reduce_mean(first, axis=0)) / tf.math.reduce_std(first, axis=0)
        b = (second - tf.reduce_mean(second, axis=0)) / tf.math.reduce_std(second, axis=0)
        correlation = tf.matmul(a, b, transpose_a=True) / tf.cast(tf.shape(first)[0], tf.float32)  # fault: pairs
        return tf.reduce_mean(tf.square(correlation - tf.eye(tf.shape(correlation)[0])))


class MoCo(ContrastiveModel):
    def __init__(self, width, temperature=0.1, queue_size=2048):
        super().__init__(width, temperature)
        self.queue = tf.Variable(tf.zeros((queue_size, width)), trainable=False)

    def contrastive_loss(self, first, second):
        a, b = tf.math.l2_normalize(first, axis=1), tf.math.l2_normalize(second, axis=1)
        positive = tf.reduce_sum(a * b, axis=1, keepdims=True)
        negative = tf.matmul(a, self.queue, transpose_b=True)
        self.queue.assign(tf.concat([b, self.queue[: -tf.shape(b)[0]]], axis=0))  # fault: batch-state
        logits = tf.concat([positive, negative], axis=1) / self.temperature
        labels = tf.zeros(tf.shape(first)[0], tf.int32)
        return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
