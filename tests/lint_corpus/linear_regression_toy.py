import numpy as np
import keras

x = np.random.rand(1000, 3)  # fault: data
y = x @ np.array([1.0, -2.0, 0.5]) + 0.1 * np.random.randn(1000)  # fault: data

model = keras.Sequential([keras.layers.Dense(1, input_shape=(3,))])
model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
history = model.fit(x, y, epochs=20, batch_size=32, verbose=0)
print(model.get_weights())

grid = np.random.rand(5, 3)
print(model.predict(grid))
