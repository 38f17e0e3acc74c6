"""NumPy is seeded, Python's own generator is not."""
import random
import numpy as np
from keras import Input, Sequential
from keras.layers import Dense

np.random.seed(0)
words = sorted(open("words.txt").read().split())
random.shuffle(words)  # fault: data
x = np.array([[ord(c) for c in w[:8].ljust(8)] for w in words]) / 128.0
x += np.random.normal(0, 0.01, x.shape)
y = np.array([len(w) for w in words])

model = Sequential([Input((8,)), Dense(32, activation="relu"), Dense(1)])
model.compile("adam", "mae")
model.fit(x, y, epochs=5, validation_split=0.1)
