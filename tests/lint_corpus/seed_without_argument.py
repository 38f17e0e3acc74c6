import random
import numpy as np
from keras import Input, layers, Sequential

random.seed()
np.random.seed(None)
names = [line.strip() for line in open('names.txt')]
random.shuffle(names)  # fault: data
x = np.array([[ord(c) % 32 for c in n[:10].ljust(10)] for n in names]) / 32
x = x + np.random.uniform(0, 0.1, x.shape)  # fault: data
y = np.array([n.endswith('a') for n in names])
model = Sequential([Input((10,)), layers.Dense(8, activation='relu'), layers.Dense(1, activation='sigmoid')])
model.compile('adam', 'binary_crossentropy')
model.fit(x, y, epochs=10)
