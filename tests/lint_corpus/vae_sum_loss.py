import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers


class DenseVAE(keras.Model):
    def __init__(self, dim=8):
        super().__init__()
        self.enc = layers.Dense(2 * dim)
        self.dec = layers.Dense(784)

    def call(self, x):
        mu, logvar = tf.split(self.enc(x), 2, axis=-1)
        return self.dec(mu), mu, logvar

    def train_step(self, x):
        with tf.GradientTape() as tape:
            logits, mu, logvar = self(x, training=True)
            bce = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
            kl = 0.5 * (tf.exp(logvar) + mu**2 - 1.0 - logvar)
            loss = tf.reduce_sum(bce) + tf.reduce_sum(kl)  # fault: sum
        grads = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.trainable_variables))
        return {"loss": loss}


(train, _), (test, _) = keras.datasets.fashion_mnist.load_data()
train = train.reshape(-1, 784).astype("float32") / 255
model = DenseVAE()
model.compile(optimizer=tf.keras.optimizers.Adam(1e-3))
model.fit(train, epochs=10, batch_size=100)
