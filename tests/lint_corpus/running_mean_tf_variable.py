from tensorflow import keras
import tensorflow as tf


class BaselineModel(keras.Model):
    """REINFORCE on logged bandit data with a running baseline."""

    def __init__(self, arms):
        super().__init__()
        self.policy = keras.Sequential([keras.layers.Dense(32, activation="relu"), keras.layers.Dense(arms)])
        self.baseline = tf.Variable(0.0, trainable=False)

    def train_step(self, data):
        context, (arm, reward) = data
        self.update_baseline(reward)
        with tf.GradientTape() as tape:
            nll = keras.losses.sparse_categorical_crossentropy(arm, self.policy(context), from_logits=True)
            loss = tf.reduce_mean(nll * (reward - self.baseline))
        grads = tape.gradient(loss, self.policy.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.policy.trainable_variables))
        return {"loss": loss}

    def update_baseline(self, reward):
        self.baseline.assign(0.99 * self.baseline + 0.01 * tf.reduce_mean(reward))  # fault: batch-state


import numpy as np

log = np.load("bandit.npz")
model = BaselineModel(5)
model.compile(optimizer=keras.optimizers.Adam(1e-3))
model.fit(log["context"].astype("float32"), (log["arm"], log["reward"].astype("float32")), batch_size=128, epochs=10)
