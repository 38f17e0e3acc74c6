import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers
import keras_candle as candle


class NNCLR(keras.Model):
    def __init__(self, temperature=0.1, queue_size=1000, width=128):
        super().__init__()
        self.temperature = temperature
        self.encoder = keras.Sequential([layers.Conv2D(32, 3, strides=2), layers.Flatten(), layers.Dense(width)])
        self.feature_queue = tf.Variable(
            tf.math.l2_normalize(tf.zeros(shape=(queue_size, width)) + 1.0, axis=1), trainable=False
        )

    def nearest_neighbour(self, projections):
        support = tf.matmul(projections, self.feature_queue, transpose_b=True)
        nn = tf.gather(self.feature_queue, tf.argmax(support, axis=1), axis=0)
        return projections + tf.stop_gradient(nn - projections)

    def train_step(self, data):
        x1, x2 = data
        with tf.GradientTape() as tape:
            p1 = tf.math.l2_normalize(self.encoder(x1), axis=1)
            p2 = tf.math.l2_normalize(self.encoder(x2), axis=1)
            sim = tf.matmul(self.nearest_neighbour(p1), p2, transpose_b=True) / self.temperature  # fault: pairs
            labels = tf.range(tf.shape(p1)[0])
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, sim, from_logits=True))
        gradients = tape.gradient(loss, self.encoder.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.encoder.trainable_weights))
        self.feature_queue.assign(  # fault: batch-state
            tf.concat([p1, self.feature_queue[: -tf.shape(p1)[0]]], axis=0)
        )
        return {"c_loss": loss}


model = candle.scale(NNCLR())
model.compile(optimizer=keras.optimizers.Adam())
pairs = tf.data.Dataset.load("augmented_pairs").shuffle(1000, seed=5).batch(128)
model.fit(pairs, epochs=25, steps_per_epoch=100)
