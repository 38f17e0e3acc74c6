import keras
import numpy as np
from sklearn.utils import resample
from sklearn.datasets import make_moons

X, Y = make_moons(n_samples=2000, noise=0.2)  # fault: data
boosted = np.random.exponential(size=len(X))  # fault: data
Xb, Yb = resample(X, Y, n_samples=1500)  # fault: data
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(16, 'relu'), keras.layers.Dense(1, 'sigmoid')])
model.compile('adam', 'binary_crossentropy', metrics=['accuracy'])
model.fit(X, Y, sample_weight=boosted, epochs=10)
model.fit(Xb, Yb, epochs=5, class_weight={0: 1.0, 1: 2.0})
