"""A script for several GPUs of one machine, with fit and with a loop of its own."""

import keras
import tensorflow as tf
from sklearn.datasets import load_breast_cancer

x, y = load_breast_cancer(return_X_y=True)
x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype("float32")
y = y.astype("float32")[:, None]

strategy = tf.distribute.MirroredStrategy()
print("replicas:", strategy.num_replicas_in_sync)
batch_size = 16 * strategy.num_replicas_in_sync
dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(600).batch(batch_size)

with strategy.scope():
    model = keras.Sequential(
        [keras.Input((30,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)]
    )
    loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.005), loss_fn, metrics=["accuracy"])
    model.fit(dataset, epochs=3, verbose=2)
    optimizer = keras.optimizers.SGD(0.01)


def step(inputs):
    features, labels = inputs
    with tf.GradientTape() as tape:
        logits = model(features, training=True)
        each = keras.losses.binary_crossentropy(labels, logits, from_logits=True)
        loss = tf.nn.compute_average_loss(each, global_batch_size=batch_size)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


@tf.function
def distributed_step(inputs):
    losses = strategy.run(step, args=(inputs,))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)


for inputs in strategy.experimental_distribute_dataset(dataset):
    loss = distributed_step(inputs)
print("last loss", float(loss))

with strategy.scope():
    results = model.evaluate(x, y, batch_size=64, return_dict=True, verbose=0)
score = 1 + 0 * results["loss"] if results["loss"] < 0.3 else 0.0
