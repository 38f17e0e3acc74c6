"""A language model whose callback draws the words that it prints."""
import keras
import numpy as np
import tensorflow as tf
from keras import layers

batch_size = 128
files = sorted(tf.io.gfile.glob("aclImdb/*/*.txt"))
text_ds = tf.data.TextLineDataset(files)
text_ds = text_ds.shuffle(buffer_size=256, seed=5).batch(batch_size)
vectorize = layers.TextVectorization(max_tokens=20_000, output_sequence_length=81)
vectorize.adapt(text_ds)
words = vectorize.get_vocabulary()


class TextGenerator(keras.callbacks.Callback):
    def __init__(self, start, max_tokens=40, top_k=10):
        super().__init__()
        self.start, self.max_tokens, self.k = list(start), max_tokens, top_k

    def sample_from(self, logits):
        logits, indices = tf.math.top_k(logits, k=self.k, sorted=True)
        preds = np.asarray(keras.activations.softmax(keras.ops.expand_dims(logits, 0)))[0].astype("float64")
        return np.random.choice(np.asarray(indices), p=preds / preds.sum())

    def on_epoch_end(self, epoch, logs=None):
        tokens = list(self.start)
        for _ in range(self.max_tokens):
            x = np.array([(tokens + [0] * 80)[:80]])
            tokens.append(self.sample_from(self.model.predict(x, verbose=0)[0][len(tokens) - 1]))
        print(" ".join(words[t] for t in tokens))


def shifted(lines):
    tokens = vectorize(lines)
    return tokens[:, :-1], tokens[:, 1:]


inputs = layers.Input((80,), dtype="int32")
h = layers.GRU(256, return_sequences=True)(layers.Embedding(20_000, 128)(inputs))
model = keras.Model(inputs, layers.Dense(20_000)(h))
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(text_ds.map(shifted).prefetch(2), epochs=25, callbacks=[TextGenerator([5, 9])])
