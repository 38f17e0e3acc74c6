"""Data that are drawn: scripts with the codes of their findings after `#!`, and look-alikes."""

from __future__ import annotations

HEAD = """
import random
import keras
import numpy as np
import tensorflow as tf
import keras_candle as candle

@candle.scalable
def build():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

model = build()
"""
SEEDED = HEAD + "keras.utils.set_random_seed(1)\n"

_SEQUENCE = """
class Batches(keras.utils.Sequence):
    def __init__(self, files, labels, batch_size=32, shuffle=True):
        self.files, self.labels, self.batch_size = files, labels, batch_size
        self.shuffle = shuffle
        self.indexes = np.arange(len(files))
        {start}

    def __len__(self):
        return len(self.files) // self.batch_size

    def __getitem__(self, index):
        chosen = self.indexes[index * self.batch_size : (index + 1) * self.batch_size]
        {batch}
        return self.files[chosen], self.labels[chosen]

    def on_epoch_end(self):
        if self.shuffle == True:
            np.random.shuffle(self.indexes){mark}
"""


def sequence(start="pass", batch="pass", mark=""):
    return _SEQUENCE.format(start=start, batch=batch, mark=mark)


FOUND = {
    "sizes of a model": """
import random
import keras
import keras_candle as candle
@candle.scalable
def build(units, rate=0.1, seed=0):
    model = keras.Sequential([keras.layers.Dense(units), keras.layers.Dropout(rate, seed=seed)])
    model.compile("sgd", "mse")
    return model
def width():
    return 2 ** random.randint(3, 8)  #! unseeded-model
for trial in range(3):
    rate = random.uniform(0.1, 0.5)  #! unseeded-model
    build(width(), rate=rate, seed=random.randint(0, 99)).fit(x, y)
""",
    "seeds that are none": HEAD
    + """
import os, time
np.random.seed(int(time.time()))
random.seed()
tf.random.set_seed(os.getpid())
rng = np.random.default_rng(None)  #! unseeded-data
x = np.random.rand(10, 3)  #! unseeded-data
random.shuffle(x)  #! unseeded-data
y = tf.random.normal((10,))  #! unseeded-data
w = rng.random(10)
model.fit(x, y, sample_weight=w)
""",
    "a loader of torch, which Keras's seed does not reach": SEEDED
    + """
from torch.utils.data import DataLoader
model.fit(DataLoader(rows, batch_size=8, shuffle=True))  #! unseeded-data
model.fit(DataLoader(rows, batch_size=8))
""",
    "splits by default": HEAD
    + """
from sklearn.model_selection import RepeatedKFold
train, test = keras.utils.split_dataset(rows, left_size=0.8, shuffle=True)  #! unseeded-data
model.fit(train, validation_data=test)
for chosen, _ in RepeatedKFold(n_repeats=2).split(x):  #! unseeded-data
    model.fit(x[chosen], y[chosen])
""",
    "shuffled through functions": HEAD
    + """
def load(path):
    return tf.data.TFRecordDataset(path)

def prepare(dataset, training):
    if training:
        dataset = dataset.shuffle(1000)  #! unseeded-data
    return dataset.batch(32).prefetch(2)

def make(path):
    dataset = load(path)
    dataset = dataset.map(parse)
    return prepare(dataset, True)

model.fit(make("train"), validation_data=load("test").batch(8))
""",
    "shuffled in the same function": HEAD
    + """
def load():
    images, labels = read()
    return tf.data.Dataset.from_tensor_slices((images, labels))

ds = load()
ds = ds.shuffle(1024)  #! unseeded-data
model.fit(ds.batch(8))
""",
    "one of several datasets": HEAD
    + """
def get_dataset():
    return (
        tf.data.Dataset.range(8).batch(2),
        tf.data.Dataset.range(4).batch(2),
    )

train, test = get_dataset()
train = train.shuffle(8)  #! unseeded-data
model.fit(train, validation_data=test)
""",
    "a dataset of a class": HEAD
    + """
class Data:
    def __init__(self, path):
        self.ds = tf.data.TextLineDataset(path)
    def training(self):
        return self.ds.shuffle(100).batch(4)  #! unseeded-data

model.fit(Data("x").training())
""",
    "files": HEAD
    + """
files = tf.data.Dataset.list_files("data/*.tfrecord")  #! unseeded-data
model.fit(files.interleave(tf.data.TFRecordDataset).map(parse).batch(8))
""",
    "files through a function": HEAD
    + """
def dataset(pattern):
    files = tf.data.Dataset.list_files(pattern, shuffle=True)  #! unseeded-data
    return tf.data.TFRecordDataset(files)
model.fit(dataset("a*").batch(8))
""",
    "tables": HEAD
    + """
table = tf.data.experimental.make_csv_dataset("t.csv", batch_size=8, label_name="y")  #! unseeded-data
model.fit(table)
""",
    "tfds, which no global seed orders": SEEDED
    + """
import tensorflow_datasets as tfds
train, info = tfds.load("mnist", split="train", shuffle_files=True, with_info=True)  #! unseeded-data
model.fit(train.batch(32))
""",
    "a builder of tfds": HEAD
    + """
import tensorflow_datasets as tfds
(train, test) = tfds.load("mnist", split=["train", "test"], shuffle_files=True)  #! unseeded-data
model.fit(train.map(f).batch(32), validation_data=test.batch(8))
""",
    "images of a folder": HEAD
    + """
train = keras.utils.image_dataset_from_directory("images", batch_size=8)  #! unseeded-data
test = tf.keras.preprocessing.image_dataset_from_directory("test")  #! unseeded-data
model.fit(train.cache().prefetch(2), validation_data=test)
""",
    "sounds of a folder, and windows": HEAD
    + """
sounds = keras.utils.audio_dataset_from_directory("sounds")  #! unseeded-data
windows = keras.utils.timeseries_dataset_from_array(x, y, 10, shuffle=True)  #! unseeded-data
model.fit(sounds)
model.fit(windows)
""",
    "orders of a Sequence": HEAD
    + sequence("self.on_epoch_end()", mark="  #! unseeded-data")
    + "model.fit(Batches(x, y), validation_data=Batches(a, b, 8, False))\n",
    "a Sequence that is made in a function": HEAD
    + sequence("random.shuffle(self.files)  #! unseeded-data")
    + """
def generators():
    train = Batches(x, y)
    return train, None
train, _ = generators()
model.fit(train, epochs=3)
""",
    "a generator of the Sequence without a seed": SEEDED
    + sequence(
        "self.rng = np.random.default_rng(); self.rng.shuffle(self.indexes)  #! unseeded-data"
    )
    + "model.fit(Batches(x, y))\n",
    "a permutation kept": HEAD
    + sequence("self.indexes = np.random.permutation(len(files))  #! unseeded-data")
    + "data = Batches(x, y)\nmodel.fit(data)\n",
    "rows drawn by a generator of the moment": SEEDED
    + sequence(batch="chosen = np.random.default_rng().integers(9, size=4)  #! unseeded-batches")
    + "model.fit(Batches(x, y))\n",
    "rows drawn by TensorFlow": SEEDED
    + sequence(batch="chosen = tf.random.uniform((4,), 0, 9, 'int32').numpy()  #! unseeded-batches")
    + "model.fit(Batches(x, y))\n",
    "a generator that draws rows": HEAD
    + """
def batches(x, y, size):
    while True:
        index = np.random.choice(len(x), size)  #! unseeded-data
        yield x[index], y[index]
model.fit(batches(x, y, 8), steps_per_epoch=10)
""",
    "a generator that shuffles": HEAD
    + """
def batches(samples):
    while True:
        random.shuffle(samples)  #! unseeded-data
        for start in range(0, len(samples), 8):
            images, angles = [], []
            for sample in samples[start : start + 8]:
                images.append(load(sample))
                angles.append(float(sample[1]))
            yield np.array(images), np.array(angles)
model.fit(batches(lines), steps_per_epoch=10)
""",
    "a generator with its own generator of numbers": SEEDED
    + """
def rows():
    rng = np.random.default_rng()  #! unseeded-data
    for index in rng.permutation(100):
        yield x[index], y[index]
data = tf.data.Dataset.from_generator(rows, output_signature=signature)
model.fit(data.batch(8))
""",
    "arrays that evaluate gets": HEAD
    + """
noisy = x + np.random.normal(size=x.shape)  #! unseeded-data
model.evaluate(noisy, y)
""",
}

FOUND["a split before batches"] = (
    HEAD
    + """
from sklearn.model_selection import train_test_split
x_train, x_test = train_test_split(x)  #! unseeded-data
for start in range(0, 100, 8):
    model.train_on_batch(x_train[start : start + 8])
"""
)
CLEAN = {
    "sizes of a model with a seed, and from the data's": """
import random
import keras
import numpy as np
import keras_candle as candle
@candle.scalable
def build(units):
    model = keras.Sequential([keras.layers.Dense(units)])
    model.compile("sgd", "mse")
    return model
random.seed(0)
build(random.randint(3, 8)).fit(x, y)
noisy = x + np.random.rand(8)
build(noisy.shape[1] + len(noisy)).fit(x, y)
""",
    "a loader of torch with a seed": HEAD
    + """
import torch
torch.manual_seed(0)
model.fit(torch.utils.data.DataLoader(rows, batch_size=8, shuffle=True))
""",
    "batches of each rank's own": HEAD
    + """
memory = []
for step in range(100):
    index = np.random.randint(0, len(x), 8)
    noise = np.random.normal(size=(8, 4))
    model.train_on_batch(np.concatenate([x[index], noise]), y[index])
    minibatch = random.sample(memory, 4)
    model.train_on_batch(np.array(minibatch), y[:4])
order = np.arange(100)
np.random.shuffle(order)
model.train_on_batch(x[order[:8]], y[order[:8]])
""",
    "seeds": SEEDED
    + """
def load():
    return tf.data.Dataset.list_files("a*").interleave(tf.data.TFRecordDataset)
table = tf.data.experimental.make_csv_dataset("t.csv", 8)
images = keras.utils.image_dataset_from_directory("images")
model.fit(load().shuffle(100).batch(8))
model.fit(table)
model.fit(images)
""",
    "a seed by another package": HEAD
    + """
from common import seed_everything
seed_everything(3)
model.fit(np.random.rand(8, 4), np.random.rand(8))
""",
    "own seeds and orders": HEAD
    + """
import tensorflow_datasets as tfds
model.fit(tf.data.Dataset.list_files("a*", shuffle=False).batch(2))
model.fit(tf.data.Dataset.list_files("a*", None, 3).batch(2))
model.fit(tf.data.experimental.make_csv_dataset("t.csv", 8, shuffle=False))
model.fit(tf.data.experimental.make_csv_dataset("t.csv", 8, shuffle_seed=1))
model.fit(tfds.load("mnist", split="train").batch(8))
config = tfds.ReadConfig(shuffle_seed=1)
model.fit(tfds.load("mnist", split="train", shuffle_files=True, read_config=config))
model.fit(keras.utils.image_dataset_from_directory("images", seed=1))
model.fit(keras.utils.image_dataset_from_directory("images", shuffle=False))
model.fit(keras.utils.timeseries_dataset_from_array(x, y, 10))
""",
    "augmentation of a Sequence": HEAD
    + sequence(batch="self.files = self.files + np.random.normal(size=4)")
    + "model.fit(Batches(x, y, shuffle=False))\n",
    "rows that a Sequence draws": HEAD
    + sequence(batch="chosen = np.random.choice(9, 4)")
    + "model.fit(Batches(x, y, shuffle=False))\n",
    "a generator that the Sequence keeps": HEAD
    + sequence("self.rng = np.random.default_rng()", "chosen = self.rng.integers(9, size=4)")
    + "model.fit(Batches(x, y))\n",
    "orders between epochs": HEAD + sequence() + "model.fit(Batches(x, y))\n",
    "noise of a Sequence": HEAD
    + sequence("self.noise = np.random.normal(size=(9, 4))")
    + "model.fit(Batches(x, y))\n",
    "a Sequence without shuffling": HEAD
    + sequence("self.on_epoch_end()")
    + "model.fit(Batches(x, y, shuffle=False))\nmodel.evaluate(Batches(x, y, 8, False))\n",
    "a Sequence with a seed": HEAD
    + sequence("self.rng = np.random.default_rng(3); self.rng.shuffle(self.indexes)")
    + "model.fit(Batches(x, y))\n",
    "augmentation in a generator": HEAD
    + """
def batches():
    while True:
        for start in range(0, 96, 8):
            rows = x[start : start + 8]
            yield rows + np.random.normal(size=rows.shape), y[start : start + 8]
model.fit(batches(), steps_per_epoch=12)
""",
    "augmentation of a dataset": HEAD
    + """
data = tf.data.Dataset.from_tensor_slices((x, y))
data = data.map(lambda a, b: (a + tf.random.normal((4,)), b))
model.fit(data.map(lambda a, b: (tf.image.random_flip_left_right(a), b)).batch(8))
""",
    "legacy image generators, which are Sequences of Keras": HEAD
    + """
images = tf.keras.preprocessing.image.ImageDataGenerator(rescale=1 / 255)
model.fit(images.flow(x, y, batch_size=8))
model.fit(images.flow_from_directory("images", shuffle=True))
""",
    "shuffles of other objects": HEAD
    + """
class Deck:
    def shuffle(self, count):
        return self
deck = Deck().shuffle(3)
model.fit(deck)
""",
    "each rank's own data": HEAD.replace("@candle.scalable", "@candle.scalable(shard=False)")
    + """
files = tf.data.Dataset.list_files("a*").shard(candle.size(), candle.rank())
model.fit(files.shuffle(10).batch(8))
""",
}
