import keras
import tensorflow as tf


class Curriculum(keras.Model):
    """Noise falls with the count of batches."""

    def __init__(self, net, total=20_000):
        super().__init__()
        self.net = net
        self.total = total
        self.global_step = tf.Variable(0, trainable=False, dtype=tf.int64)

    def call(self, x):
        return self.net(x)

    def train_step(self, data):
        x, y = data
        level = 1.0 - tf.minimum(1.0, tf.cast(self.global_step, tf.float32) / self.total)
        noisy = x + level * tf.random.normal(tf.shape(x))
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(noisy, training=True))
        grads = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.trainable_variables))
        self.global_step.assign_add(1)  # fault: counter
        return {"loss": loss}


(x, y), _ = keras.datasets.mnist.load_data()
net = keras.Sequential([keras.Input((784,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
model = Curriculum(net)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x.reshape(-1, 784) / 255.0, y, batch_size=64, epochs=20)
