"""Random walks make the training data."""
import random
import keras
import numpy as np
import tensorflow as tf
from keras import layers

edges = np.load("edges.npy")
neighbours = {}
for a, b in edges:
    neighbours.setdefault(int(a), []).append(int(b))


def next_step(node):
    return random.choice(neighbours.get(node, [node]))  # fault: data


def walks(count=5, length=10):
    found = []
    for _ in range(count):
        nodes = sorted(neighbours)
        random.shuffle(nodes)  # fault: data
        for node in nodes:
            walk = [node]
            while len(walk) < length:
                walk.append(next_step(walk[-1]))
            found.append(walk)
    return found


pairs = [(w[i], w[i + 1]) for w in walks() for i in range(len(w) - 1)]
targets, contexts = np.array(pairs).T
labels = np.ones(len(pairs), "float32")
dataset = tf.data.Dataset.from_tensor_slices(({"target": targets, "context": contexts}, labels)).batch(1024)
target, context = layers.Input((), name="target", dtype="int32"), layers.Input((), name="context", dtype="int32")
embed = layers.Embedding(10_000, 50)
model = keras.Model([target, context], layers.Dot(axes=1)([embed(target), embed(context)]))
model.compile(keras.optimizers.Adam(1e-3), keras.losses.BinaryCrossentropy(from_logits=True))
model.fit(dataset, epochs=10)
