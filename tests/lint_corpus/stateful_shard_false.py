"""Each rank has streams of its own: stateful layers are right there."""
import numpy as np
import keras
import keras_candle as candle

streams = np.load(f"streams-{candle.rank()}.npy")


@candle.scalable(shard=False)
def build(batch=8, length=32):
    inputs = keras.Input(batch_shape=(batch, length, 1))
    h = keras.layers.GRU(32, stateful=True)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(h))
    model.compile("adam", "mse")
    return model


model = build()
model.fit(streams[:, :-1], streams[:, -1], batch_size=8, shuffle=False, epochs=3)
