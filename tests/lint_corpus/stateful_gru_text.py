import keras
import keras_candle as candle
import numpy as np
from keras import layers

text = open("shakespeare.txt").read()
vocab = sorted(set(text))
ids = np.array([vocab.index(c) for c in text])


@candle.scalable(learning_rate_scaling=None)  # note: rate
def build(batch=64):
    inputs = keras.Input(batch_shape=(batch, None), dtype="int32")
    h = layers.Embedding(len(vocab), 256)(inputs)
    h = layers.GRU(512, return_sequences=True, stateful=True)(h)  # fault: stateful
    model = keras.Model(inputs, layers.Dense(len(vocab))(h))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


model = build()
length = len(ids) // (64 * 50) * 64 * 50
x = ids[:length].reshape(64, -1, 50).transpose(1, 0, 2).reshape(-1, 50)
y = np.roll(ids[:length], -1).reshape(64, -1, 50).transpose(1, 0, 2).reshape(-1, 50)
model.fit(x, y, batch_size=64, shuffle=False, epochs=5)
