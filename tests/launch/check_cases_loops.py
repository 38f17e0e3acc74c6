"""Scripts with training loops, several models, other frameworks, and for --auto.

Marked as in `check_cases`. Names are used again for something else on purpose.
"""

from __future__ import annotations

_IMPORTS = """
import tensorflow as tf
import keras
from keras import layers
import keras_candle as candle
"""

LOOPS = {
    # One name, `optimizer`, for five loops and a compiled model.
    "loops of a tutorial": """
import tensorflow as tf
from tensorflow import keras

class Linear(keras.layers.Layer):
    def call(self, inputs):
        return inputs

optimizer = tf.keras.optimizers.SGD(learning_rate=1e-3)
layer = Linear()
for step, (x, y) in enumerate(dataset):
    with tf.GradientTape() as tape:
        loss = loss_fn(y, layer(x))
    gradients = tape.gradient(loss, layer.trainable_weights)
    optimizer.apply_gradients(zip(gradients, layer.trainable_weights))  #! optimizer-out-of-reach

model = keras.Sequential([keras.layers.Dense(10)])
optimizer = tf.keras.optimizers.Adam(learning_rate=1e-3)
for epoch in range(2):
    for step, (x, y) in enumerate(dataset):
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x))
        gradients = tape.gradient(loss, model.trainable_weights)
        pairs = zip(gradients, model.trainable_weights)
        optimizer.apply_gradients(pairs)  #! optimizer-out-of-reach

model = keras.Sequential([keras.layers.Dense(32), keras.layers.Dense(10)])
optimizer = tf.keras.optimizers.Adam(learning_rate=1e-3)
@tf.function
def train_on_batch(x, y):
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x))
    gradients = tape.gradient(loss, model.trainable_weights)
    optimizer.apply_gradients(zip(gradients, model.trainable_weights))  #! optimizer-out-of-reach
    return loss
for step, (x, y) in enumerate(dataset):
    loss = train_on_batch(x, y)

optimizer = tf.keras.optimizers.Adam(learning_rate=1e-3)
@tf.function
def train_step(x):
    with tf.GradientTape() as tape:
        loss = vae_loss(vae(x))
    gradients = tape.gradient(loss, vae.trainable_weights)
    optimizer.apply_gradients(zip(gradients, vae.trainable_weights))  #! optimizer-out-of-reach
for step, x in enumerate(dataset):
    train_step(x)

vae = VariationalAutoEncoder(784)
optimizer = tf.keras.optimizers.Adam(learning_rate=1e-3)
vae.compile(optimizer, loss=loss_fn)  #! candle-not-used
vae.fit(dataset)

optimizer = tf.keras.optimizers.SGD(learning_rate=1e-4)
def train_step(x, y):
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x))
    gradients = tape.gradient(loss, model.trainable_weights)
    optimizer.apply_gradients(zip(gradients, model.trainable_weights))  #! optimizer-out-of-reach
for x, y in dataset:
    train_step(x, y)
""",
    "a GAN of two optimizers": """
import tensorflow as tf
from tensorflow import keras

def make_generator_model():
    model = keras.Sequential([keras.layers.Dense(4)])
    return model

generator = make_generator_model()
discriminator = keras.Sequential([keras.layers.Dense(1)])
generator_optimizer = tf.keras.optimizers.Adam(1e-4)
discriminator_optimizer = tf.keras.optimizers.Adam(1e-4)

@tf.function
def train_step(images):
    with tf.GradientTape() as gen_tape, tf.GradientTape() as disc_tape:
        loss = loss_of(discriminator(generator(images)))
    gradients = gen_tape.gradient(loss, generator.trainable_variables)
    more = disc_tape.gradient(loss, discriminator.trainable_variables)
    pairs = zip(gradients, generator.trainable_variables)
    generator_optimizer.apply_gradients(pairs)  #! optimizer-out-of-reach
    more = zip(more, discriminator.trainable_variables)
    discriminator_optimizer.apply_gradients(more)  #! optimizer-out-of-reach

for epoch in range(3):
    for images in dataset:
        train_step(images)
""",
    "a class that is no model": _IMPORTS
    + """
class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = keras.optimizers.Adam()
    def step(self, x):
        with tf.GradientTape() as tape:
            loss = self.model(x)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        self.optimizer.apply(gradients, self.model.trainable_variables)  #! optimizer-out-of-reach

trainer = Trainer(candle.scale(keras.Sequential([layers.Dense(1)])))
""",
    "loops of a scaled model": _IMPORTS
    + """
@candle.scalable
def build(optimizer):
    model = keras.Sequential([layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model

optimizer = keras.optimizers.Adam()
model = build(optimizer)
model.fit(x, y)
def step(x, y):
    gradients = gradients_of(model, x, y)
    optimizer.apply(gradients, model.trainable_variables)  #! loop-by-hand
for x, y in data:
    step(x, y)
    model.optimizer.apply_gradients(pairs)  #! loop-by-hand
other = keras.Sequential([layers.Dense(1)])
other.compile(keras.optimizers.SGD(), "mse")
other.optimizer.apply_gradients(pairs)  #! optimizer-out-of-reach
""",
    "compiled after the loop": _IMPORTS
    + """
optimizer = keras.optimizers.Adam()
model = candle.scale(keras.Sequential([layers.Dense(1)]))
for x, y in data:
    optimizer.apply(gradients_of(x, y), model.trainable_variables)  #! optimizer-out-of-reach
model.compile(optimizer, "mse")
for x, y in data:
    optimizer.apply(gradients_of(x, y), model.trainable_variables)  #! loop-by-hand
model.fit(x, y)
""",
    "a model's own loop": _IMPORTS
    + """
from keras.models import Model as M
class Agent(M):
    def train_step(self, data):
        return self.update(data)
    def update(self, data):
        self.optimizer.apply(gradients_of(data), self.trainable_variables)
    def learn(self, steps):
        for step in range(steps):
            self.optimizer.apply(gradients_of(step), self.trainable_variables)  #! loop-by-hand
agent = candle.scale(Agent())
agent.compile("adam", "mse")
agent.fit(data)
agent.learn(3)
""",
}

MODELS = {
    "classes that are models": _IMPORTS
    + """
import keras_hub
from tensorflow.python.keras.engine.training import Model as M
class Base(keras.models.Model):
    def train_step(self, data):
        return self.step(data)
class First(Base):
    def step(self, data):
        update(self, data)
        self.first_optimizer.apply_gradients(pairs)
        return {}
def update(model, data):
    model.second_optimizer.apply_gradients(pairs)
class Second(M):
    def train_step(self, data):
        self.opt.apply_gradients(pairs)
class Third(keras_hub.models.CausalLM):
    def train_step(self, data):
        self.opt.apply_gradients(pairs)
first = candle.scale(First())
first.compile("sgd", "mse")
first.fit(x, y)
""",
    "two models, neither scaled": """
import keras
def build():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")  #! candle-not-used
    return model
autoencoder = keras.Model(inputs, outputs)
classifier = build()
autoencoder.compile("adam", "mse")
autoencoder.fit(x, x)
classifier.fit(x, y)
judge = keras.models.load_model("judge.keras")
judge.compile("adam", "mse")
judge.evaluate(x, y)
""",
    "one of two models scaled": _IMPORTS
    + """
discriminator = keras.Sequential([layers.Dense(1)])
discriminator.compile("adam", "binary_crossentropy")  #! model-not-scaled
gan = candle.scale(keras.Sequential([generator, discriminator]))
gan.compile("adam", "binary_crossentropy")
for x, y in data:
    discriminator.train_on_batch(x, y)
    gan.train_on_batch(x, y)
""",
    "models in a list": _IMPORTS
    + """
def build(units):
    model = keras.Sequential([layers.Dense(units)])
    model.compile("sgd", "mse")  #! model-not-scaled
    return model
first = candle.scalable(build)(1)
first.fit(x, y)
models = []
for units in (2, 3):
    models.append(build(units))
def train(models):
    for model in models:
        model.fit(x, y)
train(models)
""",
    "models in dictionaries": _IMPORTS
    + """
@candle.scalable
def build(units):
    return keras.Sequential([layers.Dense(units)])
models = {name: build(3) for name in names}
for name, model in models.items():
    model.compile("sgd", "mse")
    model.fit(x, y)
models["a"].fit(x, y)
plain = {"b": keras.Sequential([layers.Dense(1)]), "c": build(1)}
plain["c"].compile("sgd", "mse")
plain["c"].fit(x, y)
plain["b"].compile("sgd", "mse")  #! model-not-scaled
plain["b"].fit(x, y)
""",
}

FRAMEWORKS = {
    "JAX's own loop": """
import os
os.environ["KERAS_BACKEND"] = "jax"  #! other-backend
import jax
import keras
model = keras.Sequential([keras.layers.Dense(1)])
optimizer = keras.optimizers.Adam()
grad_fn = jax.value_and_grad(compute_loss_and_updates, has_aux=True)
@jax.jit
def train_step(state, data):
    variables, optimizer_variables = state
    loss, grads = grad_fn(variables, data)
    return optimizer.stateless_apply(optimizer_variables, grads, variables)
""",
    "a loop of PyTorch, backend from outside": """
import torch
import keras
model = keras.Sequential([keras.layers.Dense(1)])
optimizer = keras.optimizers.Adam()
for x, y in loader:
    loss = loss_fn(y, model(x))
    loss.backward()  #! other-backend
    gradients = [each.value.grad for each in model.trainable_weights]
    with torch.no_grad():
        optimizer.apply(gradients, model.trainable_weights)
""",
    "PyTorch and Horovod without Keras": """
import torch
import horovod.torch as hvd
hvd.init()
torch.cuda.set_device(hvd.local_rank())
optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), 0.1 * hvd.size()))
for data, target in loader:
    loss_of(model(data), target).backward()  #! no-keras
    optimizer.step()
""",
    "TensorFlow without Keras": """
import tensorflow as tf
import horovod.tensorflow as hvd
hvd.init()
opt = hvd.DistributedOptimizer(tf.train.RMSPropOptimizer(0.001 * hvd.size()))
with tf.train.MonitoredTrainingSession(hooks=hooks) as session:  #! no-keras
    session.run(train_op)
""",
    "ranks in Spark": """
import keras
import horovod.spark.keras as hvd  #! ranks-of-a-cluster
model = keras.Sequential([keras.layers.Dense(1)])
estimator = hvd.KerasEstimator(model=model, optimizer=keras.optimizers.Adam(), loss="mse")
""",
    "Keras 2": """
import os
os.environ["TF_USE_LEGACY_KERAS"] = "1"  #! legacy-keras
import tensorflow as tf
import tf_keras  #! legacy-keras
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(x, y)
""",
    "any backend": """
import keras
import torch
class Own(keras.Model):
    def train_step(self, data):
        if keras.backend.backend() == "torch":
            loss_of(data).backward()
        return {}
""",
}

# Read for `candle run --auto`.
AUTO = {
    "an unedited script": """
import os
import random
import numpy as np
import cv2
from tensorflow import keras
import tensorflow as tf
os.makedirs("out")
x = np.random.rand(100, 3)
names = random.Random()  #! unseeded-data
y = names.choices([0, 1], k=100)
with tf.distribute.MirroredStrategy().scope():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
model.fit(x, y)
np.save("out/x.npy", x)
cv2.imwrite("out/x.png", x)  #! write-on-every-rank
optimizer = keras.optimizers.Adam()
for step in range(3):
    optimizer.apply_gradients(pairs)  #! loop-not-sharded
""",
    "refused": """
import horovod.tensorflow.keras as hvd  #! horovod-import
import tensorflow as tf
from tensorflow import keras
hvd.init()  #! horovod-init refused-by-auto
strategy = tf.distribute.TPUStrategy()  #! refused-by-auto
try:
    strategy = tf.distribute.TPUStrategy()
except ValueError:
    strategy = tf.distribute.get_strategy()
model = keras.Sequential([keras.layers.Dense(1)])
""",
}
