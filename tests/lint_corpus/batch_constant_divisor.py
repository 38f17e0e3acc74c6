import tensorflow as tf
from tensorflow import keras

batch_size = 128


class Denoiser(keras.Model):
    def __init__(self):
        super().__init__()
        self.net = keras.Sequential([keras.layers.Dense(256, "swish"), keras.layers.Dense(64)])

    def call(self, x):
        return self.net(x)

    def train_step(self, images):
        noise = tf.random.normal(tf.shape(images))
        with tf.GradientTape() as tape:
            error = tf.square(self(images + noise, training=True) - noise)
            loss = tf.reduce_sum(error) / batch_size  # fault: batch-constant
        grads = tape.gradient(loss, self.net.trainable_weights)
        self.optimizer.apply_gradients(zip(grads, self.net.trainable_weights))
        return {"n_loss": loss}


from sklearn.datasets import load_digits

model = Denoiser()
model.compile(optimizer=keras.optimizers.AdamW(learning_rate=1e-3))
model.fit(load_digits().data.astype("float32") / 16, batch_size=batch_size, epochs=30)
