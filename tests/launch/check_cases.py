"""Scripts and what `candle check` finds by reading them.

`#!` and codes at the end of a line: those findings, on that line. Nothing else may be found.
"""

from __future__ import annotations

BUILDER = """
import keras
import keras_candle as candle

@candle.scalable
def build():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

model = build()
"""

# What goes wrong after the lines above.
AFTER_BUILDER = {
    "fit behind a test": """
if candle.is_root():
    model.fit(x, y)  #! collective-on-some-ranks
""",
    "evaluate behind a name of the rank": """
rank = candle.rank()
first = rank == 0
model.fit(x, y)
score = model.evaluate(x, y) if first else None  #! collective-on-some-ranks
""",
    "fit in a function that some ranks leave": """
def train():
    if candle.rank() != 0:
        return
    model.fit(x, y)  #! collective-on-some-ranks
train()
""",
    "fit in a function that some ranks call": """
def train():
    model.fit(x, y)  #! collective-on-some-ranks
candle.is_root() and train()
""",
    "stage and get_file behind a test": """
from keras_candle import get_file
if candle.is_root():
    candle.stage("data")  #! collective-on-some-ranks
    get_file(origin=url)  #! collective-on-some-ranks
if candle.is_root():
    folder = get_file(origin=url)
else:
    folder = get_file(origin=url)
""",
    "a rank of the launcher": """
import os
if os.environ.get("SLURM_PROCID", "0") == "0":
    model.evaluate(x, y)  #! collective-on-some-ranks
""",
    "callbacks by rank": """
from keras import callbacks as cb
class Slower(cb.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.1
class Saying(cb.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print(logs)
root = candle.is_root()
callbacks = [cb.EarlyStopping()] if root else []  #! callback-on-some-ranks
if root:
    callbacks.append(cb.ModelCheckpoint("m.keras"))  #! callback-test-not-needed
    callbacks.append(Slower())  #! own-callback-on-some-ranks
    callbacks.append(Saying())
model.fit(x, y, callbacks=callbacks)
""",
    "another model on the root": """
layers = keras.layers
inputs = keras.Input((3,))
if candle.is_root():
    outputs = layers.Dense(2)(inputs)  #! model-differs-by-rank
if candle.is_root():
    outputs = layers.Dense(2, kernel_initializer="zeros")(inputs)
else:
    outputs = layers.Dense(2)(inputs)
""",
    "data sharded by hand": """
import tensorflow as tf
data = tf.data.Dataset.from_tensor_slices((x, y))
data = data.shard(candle.size(), candle.rank()).batch(8)  #! sharded-by-hand
model.fit(data)
model.fit(x[candle.rank()::candle.size()], y)  #! sharded-by-hand
""",
    "unseeded draws": """
import numpy as np
from sklearn.model_selection import train_test_split as split
data = np.random.rand(100, 4)  #! unseeded-data
rng = np.random.default_rng()  #! unseeded-data
labels = rng.integers(2, size=100)
x, x_test, y, y_test = split(data, labels)  #! unseeded-data
model.fit(x, y)
""",
    "a seeded generator that has the name of a package": """
import numpy as np
random = np.random.default_rng(0)
x = random.random(100)
model.fit(x, x)
""",
    "unseeded shuffles": """
import random
import tensorflow as tf
names = sorted(load())
random.shuffle(names)  #! unseeded-data
data = tf.data.Dataset.from_tensor_slices(names).shuffle(100).batch(8)  #! unseeded-data
model.fit(data)
other = tf.data.Dataset.range(3).shuffle(3)  #! unseeded-split
""",
    "draws in functions": """
import numpy as np
def rows(count):
    return np.random.rand(count)  #! unseeded-data
def train(values):
    model.fit(values, values)
train(rows(3))
""",
    "a seed that comes too late": """
import numpy as np
x = np.random.rand(100, 4)  #! unseeded-data
keras.utils.set_random_seed(0)
model.fit(x, x)
""",
    "a seed for another generator": """
import numpy as np, random
random.seed(0)
model.fit(np.random.rand(100, 4))  #! unseeded-data
""",
    "a seed by rank": """
keras.utils.set_random_seed(1 + candle.rank())  #! seed-differs-by-rank
""",
    "learning rates times ranks": """
rate = 0.1 * candle.size()  #! learning-rate-scaled-twice
optimizer = keras.optimizers.SGD(rate)
from keras.optimizers import schedules
decay = schedules.CosineDecay(0.1 * candle.size(), 10)  #! learning-rate-scaled-twice
def at(epoch):
    return candle.size() * 0.1  #! learning-rate-scaled-twice
again = keras.callbacks.LearningRateScheduler(at)
model.optimizer.learning_rate = 0.1 * candle.size()  #! learning-rate-scaled-twice
""",
    "batches and steps by ranks": """
n = candle.size()
model.fit(x, y, batch_size=256 // n)  #! batch-divided-by-ranks
model.fit(x, y, batch_size=32 * n)  #! batch-multiplied-by-ranks
model.fit(data.batch(64 // n))  #! batch-divided-by-ranks
model.fit(data, steps_per_epoch=500 // n)  #! steps-divided-by-ranks
model.fit(x, y, epochs=12 // n)  #! epochs-divided-by-ranks
""",
    "files of every rank": """
import logging, os, shutil, tarfile
import numpy as np
import tensorflow as tf
from pathlib import Path
from urllib.request import urlretrieve
import matplotlib.pyplot as plt
with open("log.txt", "w") as file:  #! write-on-every-rank
    file.write("x")
logging.basicConfig(filename="log.txt")  #! write-on-every-rank
logging.basicConfig(level=logging.INFO)
with tarfile.open("x.tar") as archive:
    archive.extractall("x")  #! write-on-every-rank
np.save("x.npy", x)  #! write-on-every-rank
urlretrieve("https://example.org/x.csv", "x.csv")  #! write-on-every-rank
plt.savefig("x.png")  #! write-on-every-rank
frame.to_csv("x.csv")  #! write-on-every-rank
Path("x.txt").write_text("x")  #! write-on-every-rank
keras.saving.save_model(model, "m.keras")  #! write-on-every-rank
checkpoint = tf.train.Checkpoint(model=model)
manager = tf.train.CheckpointManager(checkpoint, "checkpoints", max_to_keep=3)
manager.save()  #! write-on-every-rank
checkpoint.write("checkpoints/last")  #! write-on-every-rank
image = keras.utils.array_to_img(x[0])
image.save("x.png")  #! write-on-every-rank
os.makedirs("out")  #! folder-made-twice
Path("out").mkdir(parents=True)  #! folder-made-twice
if not os.path.exists("more"):
    os.mkdir("more")  #! folder-made-in-a-race
shutil.rmtree("out")  #! removed-on-every-rank
""",
    "a loop by the clock": """
import time
start = time.time()
for epoch in range(100):
    model.fit(x, y)
    spent = time.time() - start
    if spent > 60:  #! loop-ends-by-clock
        break
while time.monotonic() < 60:  #! loop-ends-by-clock
    model.train_on_batch(x, y)
""",
    "a callback by the clock": """
import time
class Limit(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if time.time() > self.end:  #! batch-stop-by-clock
            self.model.stop_training = True
""",
    "layers from a set": """
for units in {8, 16}:  #! layers-in-hash-order
    hidden = keras.layers.Dense(units)
""",
    "layers and steps that ask for a word": """
keras.layers.BatchNormalization()  #! batch-norm-local
keras.layers.BatchNormalization()
keras.layers.BatchNormalization(synchronized=True)  #! batch-norm-synchronized
model.compile("sgd", "mse", jit_compile=True)  #! jit-compile
loss = keras.losses.MeanSquaredError(reduction=None)  #! loss-not-reduced
model.compile("sgd", loss)
""",
    "stateful layers": """
keras.layers.Bidirectional(keras.layers.LSTM(4, stateful=True))  #! stateful-layer
keras.layers.GRU(4, stateful=False)
class Counting(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.stateful = True  #! stateful-layer
""",
    "a raw loop": """
import tensorflow as tf
optimizer = keras.optimizers.Adam()
for step in range(3):
    with tf.GradientTape() as tape:
        loss = loss_of(model(x), y)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)  #! optimizer-out-of-reach
    model.optimizer.apply(gradients, model.trainable_variables)  #! loop-by-hand
def compiled():
    other = build()
    return 1, other
one, other = compiled()
of_other = other.optimizer
of_other.apply_gradients(zip(gradients, other.trainable_variables))  #! loop-by-hand
""",
    "a training step of its own": """
import tensorflow as tf
class Own(keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((self(x) - y) ** 2)  #! loss-is-a-sum
        gradients = tape.gradient(loss, self.trainable_variables)
        for gradient, variable in zip(gradients, self.trainable_variables):
            variable.assign_sub(0.1 * gradient)  #! update-without-optimizer
        return {"loss": loss}
""",
    "left over from Horovod": """
import tensorflow as tf
import horovod.tensorflow.keras as hvd  #! horovod-import
hvd.init()  #! horovod-init
tf.config.set_visible_devices(gpus[hvd.local_rank()], "GPU")  #! gpu-pinned-by-hand horovod-rank
optimizer = hvd.DistributedOptimizer(keras.optimizers.SGD(0.1))  #! horovod-optimizer
callbacks = [
    hvd.callbacks.BroadcastGlobalVariablesCallback(0),  #! horovod-callback
    hvd.callbacks.MetricAverageCallback(),  #! horovod-callback
]
tape = hvd.DistributedGradientTape(tf.GradientTape())  #! horovod-tape
total = hvd.allreduce(1.0)  #! horovod-collective
""",
    "a strategy": """
import tensorflow as tf
with tf.distribute.MirroredStrategy().scope():  #! distribution-strategy
    model = build()
""",
}
