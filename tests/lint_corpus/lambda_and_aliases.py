"""Aliases that hide what draws."""
import keras as k
import numpy.random as npr
from numpy import random as nr
from random import sample as pick

images = k.datasets.mnist.load_data()[0][0] / 255.0
chosen = images[npr.choice(len(images), 20_000, replace=False)]  # fault: data
noisy = chosen + nr.normal(0.0, 0.3, chosen.shape)  # fault: data
names = pick(["a", "b", "c"], 2)
print("three letters:", names)

net = k.Sequential([k.Input((28, 28)), k.layers.Flatten(), k.layers.Dense(64, "relu"), k.layers.Dense(784), k.layers.Reshape((28, 28))])
net.compile("adam", "mse")
net.fit(noisy, chosen, epochs=5)
