"""Sequences of unequal length: an embedding that masks, and a recurrent layer."""

import random

import keras
import numpy as np
from keras import layers

sentences = [[random.randrange(1, 40) for _ in range(random.randrange(3, 12))] for _ in range(480)]
labels = np.array([float(sum(word < 20 for word in each) * 2 > len(each)) for each in sentences])
x = keras.utils.pad_sequences(sentences, padding="post")

model = keras.Sequential(
    [
        layers.Embedding(40, 8, mask_zero=True),
        layers.LSTM(8),
        layers.Dropout(0.1),
        layers.Dense(1, activation="sigmoid"),
    ]
)
model.compile(keras.optimizers.RMSprop(0.02), "binary_crossentropy", metrics=["accuracy"])
model.fit(x, labels, epochs=6, batch_size=16, verbose=2)
score = model.evaluate(x, labels, verbose=0)[1]
