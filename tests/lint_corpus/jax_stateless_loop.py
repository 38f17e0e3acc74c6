"""Writing a training loop in JAX."""
import os

os.environ["KERAS_BACKEND"] = "jax"  # fault: backend

import jax
import keras
import numpy as np

model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
(x_train, y_train), _ = keras.datasets.mnist.load_data()
x_train = x_train.reshape(-1, 784).astype("float32")
loss_fn = keras.losses.CategoricalCrossentropy(from_logits=True)
optimizer = keras.optimizers.Adam(learning_rate=1e-3)
optimizer.build(model.trainable_variables)


def compute_loss_and_updates(trainable_variables, non_trainable_variables, x, y):
    y_pred, non_trainable_variables = model.stateless_call(trainable_variables, non_trainable_variables, x, training=True)
    return loss_fn(y, y_pred), non_trainable_variables


grad_fn = jax.value_and_grad(compute_loss_and_updates, has_aux=True)


@jax.jit
def train_step(state, data):
    trainable_variables, non_trainable_variables, optimizer_variables = state
    (loss, non_trainable_variables), grads = grad_fn(trainable_variables, non_trainable_variables, *data)
    trainable_variables, optimizer_variables = optimizer.stateless_apply(  # place: optimizer
        optimizer_variables, grads, trainable_variables
    )
    return loss, (trainable_variables, non_trainable_variables, optimizer_variables)


state = model.trainable_variables, model.non_trainable_variables, optimizer.variables
for start in range(0, 60000, 32):
    batch = x_train[start : start + 32], keras.utils.to_categorical(y_train[start : start + 32], 10)
    loss, state = train_step(state, batch)
print(float(loss))
