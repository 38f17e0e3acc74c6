"""More scripts and what `candle check` finds by reading them, and some where it finds nothing.

Marked as in `check_cases`.
"""

from __future__ import annotations

WHOLE = {
    "no keras_candle": """
from tensorflow import keras
model = keras.Sequential([keras.layers.Dense(1)])
model.compile(optimizer="sgd", loss="mse")  #! candle-not-used
model.fit(x, y)
""",
    "another backend": """
import os
os.environ["KERAS_BACKEND"] = "jax"  #! other-backend
import keras
""",
    "decorated functions that do something else": """
import keras
import keras_candle as candle
@candle.scalable
def nothing():  #! builder-without-model
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
@candle.scalable()
def both():
    keras.mixed_precision.set_global_policy("mixed_float16")  #! precision-set-inside
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(x, y)  #! trained-in-builder
    return model, history  #! builder-without-model
""",
    "metrics that keep extremes": """
import keras
from keras import ops
class Range(keras.metrics.Metric):
    def __init__(self):
        super().__init__()
        self.top = self.add_weight(shape=(), initializer="zeros", name="largest")
        self.low = self.add_weight(shape=(), initializer="zeros")
        self.seen = self.add_weight(shape=(), initializer="zeros")
    def update_state(self, y_true, y_pred, sample_weight=None):
        self.top.assign(ops.maximum(self.top, ops.max(y_pred)))  #! metric-state
        self.low.assign(ops.minimum(ops.min(y_pred), self.low))  #! metric-state
        self.seen.assign(self.seen + ops.max(ops.shape(y_pred)))
class Last(keras.metrics.Mean):
    def reset_state(self):
        self.total.assign(ops.max(self.count))
""",
    "a tuner of Keras Tuner's own": """
import keras_tuner as kt
tuner = kt.Hyperband(build, "val_loss", max_epochs=9)  #! tuner-on-every-rank
tuner.search(x, y, validation_split=0.2)
""",
    "another model is scaled": """
import keras
import keras_candle as candle
one = keras.Sequential([keras.layers.Dense(1)])
two = keras.models.clone_model(one)
candle.scale(one)  #! scaled-model-unused
two.compile("sgd", "mse")
two.fit(x, y)
""",
    "arguments that do not go together": """
import keras
import tensorflow as tf
import keras_candle as candle
@candle.scalable(
    shard=False,  #! whole-data-on-every-rank
    learning_rate_scaling=None,  #! learning-rate-not-scaled
    warmup_epochs=2,
)
def build():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model
data = tf.data.Dataset.from_generator(rows)
model = build()
model.fit(data)  #! warm-up-without-steps
""",
}

CLEAN_AFTER_BUILDER = {
    "a script as it should be": """
import os, tempfile
import numpy as np
import tensorflow as tf
from sklearn.model_selection import train_test_split
keras.utils.set_random_seed(0)
x, y = np.random.rand(100, 4), np.random.rand(100)
x, x_test, y, y_test = train_test_split(x, y)
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(100).batch(8)
os.makedirs("out", exist_ok=True)
callbacks = [
    keras.callbacks.EarlyStopping(),
    keras.callbacks.ModelCheckpoint("out/m.keras"),
    keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)),
    keras.callbacks.TensorBoard("logs"),
]
model.fit(data, epochs=3, callbacks=callbacks, steps_per_epoch=len(x) // 8)
model.fit(x, y, batch_size=32, validation_data=(x_test, y_test))
score = model.evaluate(x_test, y_test)
if candle.is_root():
    print(score)
    with open("out/score.txt", "w") as file:
        file.write(str(score))
    model.save("out/also.keras")
with open(os.path.join(tempfile.mkdtemp(), "x"), "w") as file:
    file.write("x")
with open(f"out/{candle.rank()}.txt", "w") as file:
    file.write("x")
model.save("out/model.keras")
""",
    "functions for the root": """
import matplotlib.pyplot as plt
def plot():
    plt.savefig("x.png")
def table():
    if not candle.is_root():
        return
    frame.to_csv("x.csv")
if candle.rank() == 0:
    plot()
table()
verbose = 1 if candle.is_root() else 0
if candle.is_root():
    history = model.fit(x, y, verbose=1)
else:
    history = model.fit(x, y, verbose=0)
""",
    "training steps of Keras's manner": """
import time
import tensorflow as tf
class Own(keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.reduce_sum((self(x) - y) ** 2, axis=1))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}
class Timing(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.spent = time.time() - self.start
        if self.spent > 1:
            print("slow")
""",
    "gradients that are averaged by hand": """
import tensorflow as tf
def compiled():
    model = build()
    return model, 1
other, one = compiled()
optimizer = other.optimizer
engine = candle.engine.current()
with tf.GradientTape() as tape:
    loss = loss_of(other(x), y)
gradients = [engine.allreduce(each, "mean") for each in tape.gradient(loss, other.weights)]
optimizer.apply(gradients, other.weights)
""",
    "a name that stands for something else later": """
import numpy as np
rows = np.random.rand(3)
print(rows)
rows = np.zeros(3)
model.fit(rows, rows)
rows = np.random.rand(3)
print(rows)
""",
    "names that a lambda binds": """
pick = lambda rows: [row for row in rows if (kept := row)]
model.fit(pick(x), y)
part = x[candle.rank() :: candle.size()]
print(part)
""",
    "other libraries' fit, shuffle and compile": """
import re, random
from sklearn.preprocessing import StandardScaler
pattern = re.compile("x")
scaler = StandardScaler()
if candle.is_root():
    scaler.fit(x)
rng = random.Random(0)
rng.shuffle(names)
""",
}

CLEAN_WHOLE = {
    "each rank with data of its own": """
import keras
import keras_candle as candle
import numpy as np
@candle.scalable(shard=False)
def build():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model
x = np.random.rand(100, 3)
build().fit(x[candle.rank() :: candle.size()], x[candle.rank() :: candle.size()])
""",
    "an extreme with its reduction": """
import keras
import keras_candle as candle
class Top(keras.metrics.Metric):
    def update_state(self, y_true, y_pred, sample_weight=None):
        self.top.assign(keras.ops.maximum(self.top, keras.ops.max(y_pred)))
candle.register_metric_reduction(Top, {"top": "max"})
""",
    "no Keras": """
import numpy as np
print(np.random.rand(3))
""",
}
