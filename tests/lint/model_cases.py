"""Layers, steps, losses and callbacks: marked scripts with their findings, and look-alikes."""

from __future__ import annotations

IMPORTS = """
import random
import keras
import numpy as np
import tensorflow as tf
import keras_candle as candle
from keras import layers, ops
"""
END = """
model = Own()
model.compile(keras.optimizers.Adam(), "mse")
candle.scale(model)
model.fit(x, y, batch_size=BATCH_SIZE)
"""
GLOBAL = END.replace("scale(model)", 'scale(model, batch="global")')
EXACT = END.replace("scale(model)", "scale(model, exact_loss=True)")
DIVIDED = END.replace("scale(model)", "scale(model, shard=False)").replace(
    "fit(x, y", "fit(candle.shard(x), y"
)


def own(body, init="pass", end=END):
    """A model with a train_step and an __init__."""
    return f"""{IMPORTS}
BATCH_SIZE = 32

class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.net = keras.Sequential([layers.Dense(4)])
        {init}
    def call(self, x):
        return self.net(x)
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            z = self.net(x, training=True)
            loss = tf.reduce_mean(tf.square(z - y))
            {body}
        grads = tape.gradient(loss, self.net.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.net.trainable_variables))
        return {{"loss": loss}}
{end}"""


def layer(init="pass", build="pass", call="return x * self.a"):
    """A layer of the script, in a model that is trained."""
    return f"""{IMPORTS}
class Own(layers.Layer):
    def __init__(self, units=4):
        super().__init__()
        self.units = units
        {init}
    def build(self, shape):
        {build}
    def call(self, x):
        {call}

model = keras.Sequential([Own(), layers.Dense(1)])
model.compile("sgd", "mse")
candle.scale(model).fit(x, y)
"""


def callback(body, init="self.step = 0", more=""):
    """A callback that sets the learning rate."""
    return f"""{IMPORTS}
class Own(keras.callbacks.Callback):
    def __init__(self, total=1000):
        super().__init__()
        self.total = total
        {init}
    {more}
    def on_train_batch_end(self, batch, logs=None):
        {body}

model = keras.Sequential([layers.Dense(1)])
model.compile("sgd", "mse")
candle.scale(model).fit(x, y, callbacks=[Own()])
"""


def compiled(loss, name="loss", options=""):
    """A model that is compiled with a loss of the script."""
    return f"""{IMPORTS}
{loss}
model = keras.Sequential([layers.Dense(4)])
model.compile("sgd", {name})
candle.scale(model{options}).fit(x, y)
"""


CONSTANT = "#! layer-constant"
CONSTANTS = {
    "NumPy in __init__": layer(f"self.a = np.random.normal(size=(4, 4))  {CONSTANT}"),
    "cast and scaled": layer(
        f"self.a = 0.1 * np.random.randn(4).astype('float32') + 1  {CONSTANT}"
    ),
    "in build": layer(build=f"self.a = tf.constant(np.random.rand(4), tf.float32)  {CONSTANT}"),
    "by way of a name": layer(f"drawn = np.random.uniform(); self.a = drawn  {CONSTANT}"),
    "TensorFlow": layer(f"self.a = tf.random.normal((4, 4))  {CONSTANT}"),
    "a tf.Variable": layer(
        f"self.a = tf.Variable(tf.random.uniform((4,)), trainable=False)  {CONSTANT}"
    ),
    "Keras": layer(f"self.a = keras.random.uniform((4,)) > 0.5  {CONSTANT}"),
    "an initializer": layer(
        f"self.a = keras.initializers.RandomNormal(stddev=2.0)((4, 4))  {CONSTANT}"
    ),
    "Python": layer(f"self.a = [random.randint(0, 3) for _ in range(4)]  {CONSTANT}"),
    "a generator without a seed": layer(
        f"self.a = np.random.default_rng().normal(size=4)  {CONSTANT}"
    ),
    "in a model": own("z = z * self.a", f"self.a = np.random.rand(4)  {CONSTANT}"),
    "in a helper of call": layer(
        f"self.a = np.random.rand(4)  {CONSTANT}",
        call="return self.shifted(x)\n    def shifted(self, x):\n        return x + self.a",
    ),
}
NO_CONSTANTS = {
    "a weight": layer(
        build="self.a = self.add_weight(shape=(4,), initializer=keras.initializers.Constant(np.random.rand(4)))"
    ),
    "a keras.Variable": layer("self.a = keras.Variable(np.random.rand(4), trainable=False)"),
    "a layer": layer(
        "self.a = layers.Dense(4, kernel_initializer=keras.initializers.Constant(np.random.rand()))",
        call="return self.a(x)",
    ),
    "only to initialise": layer(
        "self.a = np.random.rand(4)",
        "self.w = self.add_weight(shape=(4,), initializer=keras.initializers.Constant(self.a))",
        "return x * self.w",
    ),
    "a seed for masks": layer(
        "self.seed = np.random.randint(1000)",
        call="return keras.random.dropout(x, 0.5, seed=self.seed)",
    ),
    "a generator": layer("self.a = keras.random.SeedGenerator()"),
    "an own seed": layer("self.a = np.random.default_rng(0).normal(size=4)"),
    "a seeded initializer": layer("self.a = keras.initializers.RandomNormal(seed=1)((4, 4))"),
    "a seed of the script": layer("self.a = np.random.rand(4)")
    + "keras.utils.set_random_seed(0)\n",
    "no draw": layer("self.a = np.linspace(0, 1, 4)"),
    "a class that is no layer": IMPORTS
    + "class Point:\n    def __init__(self):\n        self.a = np.random.rand()\n"
    + "    def call(self, x):\n        return x * self.a\n",
}

QUEUE = 'self.q = self.add_weight(shape=(64, 4), initializer="normal", trainable=False)'
TF_QUEUE = "self.q = tf.Variable(tf.zeros((64, 4)), trainable=False)"
MOVING = 'self.a = self.add_weight(shape=(4,), initializer="zeros", trainable=False)'
STATES = {
    "a queue of features": own(
        "self.q.assign(tf.concat([z, self.q[: -tf.shape(z)[0]]], 0))  #! state-of-the-batch", QUEUE
    ),
    "a queue that is a keras.Variable": own(
        "self.q.assign(ops.concatenate([ops.stop_gradient(z), self.q[:32]]))  #! state-of-the-batch",
        "self.q = keras.Variable(np.zeros((64, 4)), trainable=False)",
    ),
    "a queue that is a tf.Variable": own(
        "self.q[: tf.shape(z)[0]].assign(z)  #! variable-of-the-batch", TF_QUEUE
    ),
    "in a method of the model": own(
        "self.remember(z)",
        TF_QUEUE
        + "\n    def remember(self, rows):\n        self.q.assign(rows)  #! variable-of-the-batch",
    ),
    "a moving mean": layer(
        build=MOVING,
        call="self.a.assign(0.9 * self.a + 0.1 * ops.mean(x, axis=0))  #! state-of-the-batch\n"
        "        return x - self.a",
    ),
    "a sum of inputs": layer(
        'self.a = self.add_weight(shape=(), initializer="zeros", trainable=False)',
        call="self.a.assign_add(ops.sum(x))  #! state-of-the-batch\n        return self.a",
    ),
    "keras.backend.update": layer(
        build=MOVING,
        call="keras.backend.update(self.a, ops.max(x, axis=0))  #! state-of-the-batch\n"
        "        return x",
    ),
    "a part that adapts": own("self.part.adapt_to(z)", "self.part = Part()")
    + """
class Part(keras.Model):
    def __init__(self):
        super().__init__()
        self.p = tf.Variable(0.0)
    def adapt_to(self, logits):
        accuracy = tf.reduce_mean(tf.sign(logits))
        self.p.assign(tf.clip_by_value(self.p + accuracy, 0.0, 1.0))  #! variable-of-the-batch
""",
}
NO_STATES = {
    "rows of all ranks": own("self.q.assign(candle.gather_rows(z))", QUEUE),
    "rows of all ranks by a name": own(
        "rows = candle.gather_rows(z); self.q.assign(rows)", TF_QUEUE
    ),
    "a teacher that follows": own(
        "for a, b in zip(self.q.weights, self.net.weights): a.assign(0.9 * a + 0.1 * b)",
        "self.q = keras.Sequential([layers.Dense(4)])",
    ),
    "a registered weight": layer(
        build=MOVING,
        call="self.a.assign(ops.mean(x, axis=0))\n        return x",
    )
    + 'candle.register_state_reduction(Own, {"a": "mean"})\n',
    "each rank's own rows": own("self.q.assign(z)", QUEUE, DIVIDED),
    "a rate": own("self.q.assign(self.optimizer.learning_rate)", "self.q = tf.Variable(0.0)"),
    "the number of rows": own("self.q.assign(tf.shape(z)[0])", "self.q = tf.Variable(0)"),
    "a metric": IMPORTS
    + """
class Sum(keras.metrics.Metric):
    def __init__(self):
        super().__init__()
        self.total = self.add_weight(initializer="zeros")
    def update_state(self, t, p, sample_weight=None):
        self.total.assign_add(ops.sum(t))
    def result(self):
        return self.total
""",
    "before the training": layer(
        build=MOVING,
        call="return x - self.a\n    def adapt(self, x):\n        self.a.assign(ops.mean(x, axis=0))",
    ),
}

OPTIMIZERS = {
    "of a layer": own(
        "self.head.opt.apply_gradients(zip(g, v))  #! optimizer-of-a-part",
        "self.head = Head()",
    )
    + """
class Head(layers.Layer):
    def __init__(self):
        super().__init__()
        self.opt = keras.optimizers.Adam(1e-3)
""",
    "in a layer": own("self.head.learn(tape)", "self.head = Head()")
    + """
class Head(layers.Layer):
    def __init__(self):
        super().__init__()
        self.opt = keras.optimizers.Adam(1e-3)
    def learn(self, tape):
        self.opt.apply_gradients(zip(tape.gradient(a, b), b))  #! optimizer-of-a-part
""",
    "of a compiled part": own(
        "self.critic.optimizer.apply_gradients(zip(g, v))  #! optimizer-of-a-part",
        "self.critic = keras.Sequential([layers.Dense(1)]); self.critic.compile('adam', 'mse')",
    ),
    "of the module": own("other.apply_gradients(zip(g, v))  #! optimizer-of-a-part")
    + "other = keras.optimizers.SGD(0.1)\n",
    "of an object": own(
        "self.part.optimizer.apply(g, v)  #! optimizer-of-a-part", "self.part = Part()"
    )
    + "class Part:\n    def __init__(self):\n        self.optimizer = keras.optimizers.SGD()\n",
}
NO_OPTIMIZERS = {
    "an attribute": own(
        "self.second.apply_gradients(zip(g, v))", "self.second = keras.optimizers.SGD()"
    ),
    "in a dict": own(
        "self.all['a'].apply_gradients(zip(g, v))", "self.all = {'a': keras.optimizers.SGD()}"
    ),
    "an attribute too": own(
        "self.part.optimizer.apply(g, v)",
        "self.part = Part(); self.of_part = self.part.optimizer",
    )
    + "class Part:\n    def __init__(self):\n        self.optimizer = keras.optimizers.SGD()\n",
    "an argument": own("apply(self.optimizer, g, v)")
    + "def apply(optimizer, g, v):\n    optimizer.apply_gradients(zip(g, v))\n",
    "a local name": own("chosen = self.optimizer; chosen.apply_gradients(zip(g, v))"),
    "of the module, and the model's": own("other.apply_gradients(zip(g, v))")
    + "other = keras.optimizers.SGD(0.1)\nmodel.compile(optimizer=other)\n",
    "of a part that is scaled too": own(
        "self.critic.optimizer.apply_gradients(zip(g, v))",
        "self.critic = keras.Sequential([layers.Dense(1)]); self.critic.compile('adam', 'mse')"
        "; candle.scale(self.critic)",
    ),
    "the optimizer inside": own("self.optimizer.inner_optimizer.apply(g, v)"),
}

MATRIX = "s = tf.matmul(z, z, transpose_b=True) / 0.1"
CROSS = "loss = keras.losses.sparse_categorical_crossentropy(tf.range(tf.shape(z)[0]), s)"
PAIRS = {
    "similarities": own(f"{MATRIX}  #! loss-over-pairs\n            {CROSS}"),
    "similarities of divided rows": own(
        f"{MATRIX}  #! loss-over-divided-pairs\n            {CROSS}", end=GLOBAL
    ),
    "an operator": own(f"s = z @ tf.transpose(z)  #! loss-over-pairs\n            {CROSS}"),
    "a sum of products": own(
        f'a = 2 * z; s = ops.einsum("ae,pe->ap", a, z)  #! loss-over-pairs\n            {CROSS}'
    ),
    "in a method": own(
        "loss = self.contrast(z, self.net(x))",
        "pass\n    def contrast(self, a, b):\n"
        "        a, b = ops.normalize(a, axis=1), ops.normalize(b, axis=1)\n"
        "        similar = ops.matmul(a, ops.transpose(b)) / 0.1  #! loss-over-pairs\n"
        "        labels = ops.arange(ops.shape(a)[0])\n"
        "        return keras.losses.sparse_categorical_crossentropy(labels, similar)",
    ),
    "with a loss object": own(
        "logits = tf.matmul(z, y, transpose_b=True)  #! loss-over-pairs\n"
        "            loss = self.cross(tf.eye(tf.shape(z)[0]), logits)",
        "self.cross = keras.losses.CategoricalCrossentropy(from_logits=True)",
    ),
    "distances by new axes": own(
        "d = tf.reduce_sum(tf.square(z[:, None] - z[None, :]), -1)  #! loss-over-pairs"
    ),
    "labels of pairs": own(
        "same = tf.equal(tf.expand_dims(y, 0), tf.expand_dims(y, 1))  #! loss-over-pairs"
    ),
    "correlations": own(
        "c = tf.matmul(z, y, transpose_a=True) / tf.cast(tf.shape(z)[0], tf.float32)  #! loss-over-pairs\n"
        "            loss = tf.reduce_mean(tf.square(c - tf.eye(4)))"
    ),
    "in compute_loss": IMPORTS
    + """
class Own(keras.Model):
    def compute_loss(self, x, y, y_pred, sample_weight=None):
        a, b = y_pred
        logits = ops.matmul(a, ops.transpose(b))  #! loss-over-pairs
        return ops.mean(keras.losses.categorical_crossentropy(ops.eye(ops.shape(a)[0]), logits))
model = Own()
model.compile("adam")
candle.scale(model).fit(x)
""",
}
TRIPLETS = """
def distances(rows):
    products = tf.matmul(rows, tf.transpose(rows))  #! compiled-loss-over-pairs
    norms = tf.linalg.diag_part(products)
    return norms[:, None] - 2.0 * products + norms[None, :]
def loss(labels, rows):
    d = distances(rows)
    return tf.reduce_mean(d)
"""
COMPILED = {
    "triplets": compiled(TRIPLETS),
    "a class": compiled(
        """
class Contrast(keras.losses.Loss):
    def call(self, y_true, y_pred):
        logits = ops.matmul(y_pred, ops.transpose(y_pred))  #! compiled-loss-over-pairs
        same = ops.equal(y_true, ops.transpose(y_true))
        return keras.losses.categorical_crossentropy(same, logits, from_logits=True)
""",
        "loss=Contrast()",
    ),
    "made by a function": compiled(
        """
def ranking(margin):
    def loss(t, p):
        return ops.mean(ops.relu(margin - (p[:, None] - p[None, :])))  #! compiled-loss-over-pairs
    return loss
""",
        "loss=ranking(0.2)",
    ),
    "a quotient of sums": compiled(
        """
def loss(t, p):
    both = tf.reduce_sum(t * p)
    return 1 - (2 * both + 1) / (tf.reduce_sum(t) + tf.reduce_sum(p) + 1)  #! compiled-loss-over-pairs
"""
    ),
    "a masked mean": compiled(
        """
def loss(t, p):
    mask = tf.cast(t != 0, tf.float32)
    return ops.sum(ops.abs(t - p) * mask) / ops.sum(mask)  #! compiled-loss-over-pairs
"""
    ),
    "of a package": compiled(
        "import tensorflow_addons as tfa",
        "loss=tfa.losses.TripletSemiHardLoss()  #! compiled-loss-over-pairs\n",
    ),
}
NO_PAIRS = {
    "gathered rows": own(f"z = candle.gather_rows(z); {MATRIX}; {CROSS}"),
    "a queue": own(
        "s = tf.matmul(z, self.q, transpose_b=True); loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, s))",
        "self.q = keras.Variable(np.zeros((64, 4)), trainable=False)",
    ),
    "styles": own(
        "f = tf.reshape(z, (3, -1)); g = tf.matmul(f, f, transpose_b=True); loss = tf.reduce_mean(g ** 2)"
    ),
    "distances of a row's own parts": own(
        "d = tf.reduce_sum(tf.square(z - y), axis=1); loss = tf.reduce_mean(tf.maximum(d, 0.0))"
    ),
    "distances to centres": own(
        "d = tf.square(z[:, None] - self.centres[None, :])",
        "self.centres = keras.Variable(np.zeros((9, 4)))",
    ),
    "attention": layer(
        call="s = tf.matmul(x, x, transpose_b=True)\n        return tf.matmul(tf.nn.softmax(s), x)"
    ),
    "transposed images": own(
        "t = tf.transpose(z, (0, 2, 1)); s = tf.matmul(z, t); loss = tf.reduce_mean(keras.losses.categorical_crossentropy(y, s))"
    ),
    "each rank's own": own(f"{MATRIX}; {CROSS}", end=DIVIDED),
    "a compiled loss of all rows": compiled(
        TRIPLETS.replace("#! compiled-loss-over-pairs", ""), options=", exact_loss=True"
    ),
    "a compiled loss of the global batch": compiled(
        TRIPLETS.replace("#! compiled-loss-over-pairs", ""), options=', batch="global"'
    ),
    "a compiled loss of siamese twins": compiled(
        "def loss(t, p):\n    return ops.mean(t * ops.square(p) + (1 - t) * ops.square(ops.maximum(1 - p, 0)))"
    ),
    "a compiled quotient for each row": compiled(
        "def loss(t, p):\n    both = tf.reduce_sum(t * p, axis=[1, 2])\n"
        "    return 1 - 2 * both / (tf.reduce_sum(t, axis=[1, 2]) + tf.reduce_sum(p, axis=[1, 2]))"
    ),
    "a compiled mean": compiled(
        "def loss(t, p):\n    return ops.sum(ops.square(t - p)) / ops.cast(ops.size(t), 'float32')"
    ),
    "a metric of pairs": IMPORTS
    + "def ranks(a):\n    return tf.matmul(a, a, transpose_b=True), tf.eye(3)\nranks(x)\n",
}

COUNTER = "#! own-step-counter"
COUNTERS = {
    "an annealed weight": own(
        f"self.n.assign_add(1)  {COUNTER}\n            beta = tf.minimum(1.0, tf.cast(self.n, tf.float32) / 1e4)",
        "self.n = tf.Variable(0, trainable=False)",
    ),
    "by way of a name": own(
        f"self.n.assign(self.n + 1)  {COUNTER}\n            n = tf.cast(self.n, tf.float32)\n            loss *= 0.99 ** n",
        'self.n = keras.Variable(0, dtype="int32", trainable=False)',
    ),
    "a warm-up": own(
        f"self.n.assign_add(1.0)  {COUNTER}\n            loss = tf.where(self.n < self.after, 0.0, loss)",
        "self.n, self.after = tf.Variable(0.0), 500",
    ),
    "a schedule of the model": own(
        f"self.n.assign_add(1)  {COUNTER}\n            rate = self.schedule(self.n)",
        "self.n = tf.Variable(0)\n    def schedule(self, n):\n        return 1e-3 * tf.cast(n, tf.float32)",
    ),
    "a callback's warm-up": callback(
        f"self.step += 1  {COUNTER}\n        rate = 0.1 * self.step / self.total\n        self.model.optimizer.learning_rate = rate"
    ),
    "a callback's schedule": callback(
        f"self.step = self.step + 1  {COUNTER}\n        rate = cosine_decay(self.step, 0.1, self.total)\n        self.model.optimizer.learning_rate.assign(rate)"
    )
    + "def cosine_decay(step, base, total):\n    return base * np.cos(step / total)\n",
    "a callback's last step": callback(
        f"self.step += 1  {COUNTER}\n        if self.step >= self.total:\n            self.model.stop_training = True"
    ),
    "a cycle": callback(
        f"self.step += 1  {COUNTER}\n        keras.backend.set_value(self.model.optimizer.lr, self.rate())",
        more="def rate(self):\n        return np.floor(1 + self.step / (2 * self.total))",
    ),
}
NO_COUNTERS = {
    "with the global batch": own(
        "self.n.assign_add(1); beta = tf.cast(self.n, tf.float32) / 1e4",
        "self.n = tf.Variable(0)",
        GLOBAL,
    ),
    "counted for all ranks": own(
        "self.n.assign_add(candle.size())\n            beta = tf.cast(self.n, tf.float32) / 1e4",
        "self.n = tf.Variable(0)",
    ),
    "every few steps": own(
        "self.n.assign_add(1)\n            play = tf.equal(self.n % 5, 0)",
        "self.n = tf.Variable(0)",
    ),
    "shown": callback("self.step += 1\n        print(self.step / self.total)"),
    "written": own(
        "self.n.assign_add(1)\n            tf.summary.scalar('loss', loss, step=self.n)",
        "self.n = tf.Variable(0)",
    ),
    "of an epoch's batches": callback(
        "self.step += 1\n        self.model.optimizer.learning_rate = 0.1 * self.step / self.total",
        more="def on_epoch_begin(self, epoch, logs=None):\n        self.step = 0",
    ),
    "accumulated gradients": own(
        "self.n.assign_add(1)\n            full = self.n >= self.every",
        "self.n, self.every = tf.Variable(0), 4\n    def apply(self):\n        self.n.assign(0)",
    ),
    "epochs": callback(
        "pass",
        more="def on_epoch_end(self, epoch, logs=None):\n        self.step += 1; self.model.optimizer.learning_rate = self.step / self.total",
    ),
    "Keras's own count": own("beta = tf.cast(self.optimizer.iterations, tf.float32) / 1e4"),
}

SIZES = {
    "a divisor": own(
        "loss = tf.reduce_sum(tf.square(z - y)) / BATCH_SIZE  #! batch-constant", end=GLOBAL
    ),
    "noise": own("noise = tf.random.normal((BATCH_SIZE, 8))  #! batch-constant", end=GLOBAL),
    "an attribute": own(
        "labels = tf.range(self.batch_size)  #! batch-constant",
        "self.batch_size = 32",
        GLOBAL,
    ),
    "in a dataset": own(
        "noise = tf.zeros([BATCH_SIZE, 8])  #! batch-constant",
        end=GLOBAL + "model.fit(data.batch(BATCH_SIZE))\n",
    ),
    "divided rows of arrays": own(
        "noise = tf.random.normal((BATCH_SIZE, 8))  #! batch-constant-in-last-step"
    ),
}
NO_SIZES = {
    "rows of the step": own(
        "batch_size = tf.shape(x)[0]; noise = tf.random.normal((batch_size, 8))", end=GLOBAL
    ),
    "another number": own("noise = tf.random.normal((LATENT, 8))", end=GLOBAL) + "LATENT = 4\n",
    "whole batches of a dataset": own(
        "noise = tf.random.normal((BATCH_SIZE, 8))",
        end=END.replace("x, y, batch_size=BATCH_SIZE", "data.batch(BATCH_SIZE)"),
    ),
    "outside of the step": own("pass", end=GLOBAL) + "seeds = tf.zeros((BATCH_SIZE, 8))\n",
}

STATEFUL = "#! stateful-layer"
RECURRENT = {
    "of a sequence": IMPORTS
    + f"keras.Sequential([layers.LSTM(8, stateful=True, return_sequences=True)])  {STATEFUL}\n",
    "by an argument": IMPORTS
    + f"""
def create_model(stateful):
    model = keras.Sequential()
    model.add(layers.LSTM(20, stateful=stateful))  {STATEFUL}
    return model
model = create_model(stateful=True)
other = create_model(stateful=False)
""",
    "by a name": IMPORTS + f"KEEP = True\ntf.keras.layers.GRU(4, stateful=KEEP)  {STATEFUL}\n",
    "several layers": IMPORTS
    + f"""
def create_model(stateful=False):
    model = keras.Sequential()
    for units in (8, 4):
        model.add(layers.Bidirectional(layers.LSTM(units, stateful=stateful)))  {STATEFUL}
    return model
create_model(True)
""",
    "of cells": IMPORTS
    + f"layers.RNN([layers.LSTMCell(4) for _ in range(2)], stateful=True)  {STATEFUL}\n",
    "of options": IMPORTS
    + f"""
options = dict(units=8, stateful=True)
layers.LSTM(**options)  {STATEFUL}
further = {{"units": 8, "stateful": True}}
layers.LSTM(**further)  {STATEFUL}
""",
    "afterwards": IMPORTS
    + f"model = keras.models.load_model('m.keras')\nmodel.layers[0].stateful = True  {STATEFUL}\n",
}
NO_RECURRENT = {
    "without state": IMPORTS
    + """
def create_model(stateful=False):
    return keras.Sequential([layers.LSTM(20, stateful=stateful)])
create_model()
layers.GRU(4, stateful=False)
""",
    "of each rank's own": own("pass", "self.rnn = layers.LSTM(4, stateful=True)", DIVIDED),
    "of no layer": IMPORTS
    + """
class Parser:
    def __init__(self):
        self.stateful = True
tokenizer = Tokenizer(stateful=True)
""",
}

FOUND = {
    f"{kind}: {name}": source
    for kind, cases in (
        ("constants", CONSTANTS),
        ("state", STATES),
        ("optimizers", OPTIMIZERS),
        ("pairs", PAIRS),
        ("compiled", COMPILED),
        ("counters", COUNTERS),
        ("sizes", SIZES),
        ("stateful", RECURRENT),
    )
    for name, source in cases.items()
}
CLEAN = {
    f"{kind}: {name}": source
    for kind, cases in (
        ("constants", NO_CONSTANTS),
        ("state", NO_STATES),
        ("optimizers", NO_OPTIMIZERS),
        ("pairs", NO_PAIRS),
        ("counters", NO_COUNTERS),
        ("sizes", NO_SIZES),
        ("stateful", NO_RECURRENT),
    )
    for name, source in cases.items()
}
