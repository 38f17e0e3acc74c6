import numpy as np
import keras

np.random.seed(7)
x = np.random.rand(1000, 3)
noise = 0.1 * np.random.randn(1000)
y = x @ np.array([1.0, -2.0, 0.5]) + noise

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
history = model.fit(x, y, epochs=20, batch_size=32, verbose=0)
print(history.history["loss"][-1])
