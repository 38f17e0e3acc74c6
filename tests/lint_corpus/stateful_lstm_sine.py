"""Stateful LSTM on a long sine wave."""
import numpy as np
from keras.layers import LSTM, Dense, Input
from keras.models import Sequential

batch_size, lahead, epochs = 25, 1, 10
series = np.sin(np.arange(20000) / 15.0)
x = series[:-1].reshape(-1, lahead, 1)
y = series[1:].reshape(-1, 1)
n = (len(x) // batch_size) * batch_size


def create_model(stateful):
    model = Sequential()
    model.add(Input(batch_shape=(batch_size, lahead, 1)))
    model.add(LSTM(20, stateful=stateful))  # fault: stateful
    model.add(Dense(1))
    model.compile(loss="mse", optimizer="adam")
    return model


model_stateful = create_model(stateful=True)  # place: stateful
for i in range(epochs):
    print("Epoch", i + 1, "/", epochs)
    model_stateful.fit(x[:n], y[:n], batch_size=batch_size, epochs=1, shuffle=False)
    for layer in model_stateful.layers:
        if hasattr(layer, "reset_states"):
            layer.reset_states()
