"""Domain adaptation: source and target batches are joined, thresholds come from the batch."""
import keras
import tensorflow as tf
from keras import ops

STEPS = 1000


class AdaMatch(keras.Model):
    def __init__(self, model, total_steps, tau=0.9):
        super().__init__()
        self.model, self.tau = model, tau
        self.total_steps = total_steps
        self.current_step = tf.Variable(0, dtype="int64")
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def compute_mu(self):
        pi = tf.constant(3.14159, dtype="float32")
        step = tf.cast(self.current_step, dtype="float32")
        return 0.5 - tf.cos(tf.math.minimum(pi, (2 * pi * step) / self.total_steps)) / 2

    def train_step(self, data):
        source, target = data
        (source_w, labels), (target_w, target_s) = source, target
        combined = tf.concat([source_w, target_w, target_s], 0)
        rows = tf.shape(source_w)[0]
        with tf.GradientTape() as tape:
            logits = self.model(combined, training=True)
            source_logits, weak, strong = logits[:rows], logits[rows : 2 * rows], logits[2 * rows :]
            pseudo = tf.stop_gradient(tf.nn.softmax(weak))
            row_max = tf.reduce_max(tf.nn.softmax(source_logits), axis=-1)
            threshold = self.tau * tf.reduce_mean(row_max)  # place: pairs
            mask = tf.cast(tf.reduce_max(pseudo, axis=-1) >= threshold, "float32")
            source_loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, source_logits, from_logits=True))
            target_loss = tf.reduce_mean(keras.losses.categorical_crossentropy(pseudo, strong, from_logits=True) * mask)
            loss = source_loss + self.compute_mu() * target_loss
            self.current_step.assign_add(1)  # fault: counter
        gradients = tape.gradient(loss, self.model.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


source = tf.data.Dataset.load("mnist_weak").shuffle(5000, seed=2).batch(64)
target = tf.data.Dataset.load("svhn_weak_strong").shuffle(5000, seed=2).batch(64)
backbone = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(16, 3), keras.layers.Flatten(), keras.layers.Dense(10)])
model = AdaMatch(backbone, STEPS)
model.compile(optimizer=keras.optimizers.Adam(0.03))
model.fit(tf.data.Dataset.zip((source, target)), epochs=10)
