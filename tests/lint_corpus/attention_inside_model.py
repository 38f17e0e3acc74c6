"""Products of a sequence with itself are no pairs of rows."""
import keras
from keras import layers, ops
import tensorflow as tf
import keras_candle as candle


class SelfAttention(layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.value = (layers.Dense(width) for _ in range(3))

    def call(self, x):
        scores = ops.matmul(self.query(x), ops.transpose(self.key(x), (0, 2, 1)))
        return ops.matmul(ops.softmax(scores), self.value(x))


class Transformer(keras.Model):
    def __init__(self):
        super().__init__()
        self.embed = layers.Embedding(20000, 32)
        self.attend = SelfAttention(32)
        self.head = layers.Dense(2)

    def call(self, x):
        return self.head(ops.mean(self.attend(self.embed(x)), axis=1))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            logits = self(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
        grads = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.trainable_variables))
        return {"loss": loss}


@candle.scalable(learning_rate_scaling="sqrt", warmup_epochs=1)
def build():
    model = Transformer()
    model.compile(optimizer=keras.optimizers.Adam(1e-4))
    return model


(x, y), _ = keras.datasets.imdb.load_data(num_words=20000)
build().fit(keras.utils.pad_sequences(x, maxlen=200), y, batch_size=32, epochs=2)
