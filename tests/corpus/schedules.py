"""Several fits of one model: a schedule of steps, then a callback that sets the rate."""

import keras
import numpy as np
import tensorflow as tf

x = np.random.default_rng().uniform(-1, 1, size=(512, 4)).astype("float32")
y = np.tanh(x @ np.array([[1.0], [-2.0], [0.5], [1.5]], "float32"))
dataset = tf.data.Dataset.from_tensor_slices((x, y)).cache().shuffle(512).batch(16).repeat()

model = keras.Sequential([keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(1)])
steps = 6 * 512 // 16
schedule = keras.optimizers.schedules.CosineDecay(
    0.001, decay_steps=steps, warmup_target=0.02, warmup_steps=steps // 6
)
model.compile(keras.optimizers.AdamW(schedule, weight_decay=0.001, clipnorm=1.0), "mse")
model.fit(dataset, epochs=3, steps_per_epoch=32, verbose=2)
model.fit(dataset, epochs=6, initial_epoch=3, steps_per_epoch=32, verbose=2)

model.compile(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), "mse", steps_per_execution=4)
halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)
model.fit(x, y, epochs=3, batch_size=16, callbacks=[halve], verbose=2)
score = 1 - model.evaluate(x, y, verbose=0) / y.var()
