"""Small language model on text, nothing to complain about."""
import os
import keras
from keras import layers, ops
import tensorflow as tf

files = sorted(os.path.join("corpus", name) for name in os.listdir("corpus"))
ds = tf.data.TextLineDataset(files).filter(lambda line: tf.strings.length(line) > 20)
vectorize = layers.TextVectorization(max_tokens=10_000, output_sequence_length=81)
vectorize.adapt(ds.batch(256).take(100))


def split(lines):
    tokens = vectorize(lines)
    return tokens[:, :-1], tokens[:, 1:]


train = ds.shuffle(10_000, seed=6).batch(128).map(split, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, maxlen, vocab, width):
        super().__init__()
        self.tokens, self.positions = layers.Embedding(vocab, width), layers.Embedding(maxlen, width)

    def call(self, x):
        return self.tokens(x) + self.positions(ops.arange(ops.shape(x)[-1]))


inputs = layers.Input((80,), dtype="int32")
x = TokenAndPositionEmbedding(80, 10_000, 128)(inputs)
x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 64)(x, x, use_causal_mask=True))
model = keras.Model(inputs, layers.Dense(10_000)(x))
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(train, epochs=25)
