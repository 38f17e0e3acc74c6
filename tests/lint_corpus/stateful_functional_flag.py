import numpy as np
import tensorflow as tf
import keras_candle as candle

BATCH, STEPS = 16, 20
params = dict(units=64, stateful=True, return_sequences=True)  # place: stateful


@candle.scalable
def forecaster():
    inputs = tf.keras.Input(batch_shape=(BATCH, STEPS, 3))
    h = tf.keras.layers.LSTM(**params)(inputs)  # fault: stateful
    h = tf.keras.layers.SimpleRNN(16, stateful=True)(h)  # fault: stateful
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(h))
    model.compile("adam", "mse")
    return model


series = np.load("series.npy")
model = forecaster()
for epoch in range(5):
    model.fit(series[:-1], series[1:, -1], batch_size=BATCH, shuffle=False)
    model.reset_states() if hasattr(model, "reset_states") else None
