"""A training loop without fit: a step in a tf.function, metrics and validation by hand."""

import keras
import tensorflow as tf
from sklearn.datasets import load_digits

x, y = load_digits(return_X_y=True)
x = x.astype("float32") / 16
train = tf.data.Dataset.from_tensor_slices((x[:1400], y[:1400])).shuffle(1400).batch(32)
held_out = tf.data.Dataset.from_tensor_slices((x[1400:], y[1400:])).batch(64)

model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(10),
    ]
)
optimizer = keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9))
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
accuracy = keras.metrics.SparseCategoricalAccuracy()


@tf.function(jit_compile=True)
def train_step(images, labels):
    with tf.GradientTape() as tape:
        loss = loss_fn(labels, model(images, training=True))
    gradients = tape.gradient(loss, model.trainable_weights)
    optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
    return loss


for epoch in range(3):
    for images, labels in train:
        loss = train_step(images, labels)
    accuracy.reset_state()
    for images, labels in held_out:
        accuracy.update_state(labels, model(images, training=False))
    print(f"epoch {epoch}: loss {float(loss):.3f}, accuracy {float(accuracy.result()):.3f}")

eager = keras.optimizers.SGD(0.001, momentum=0.9)
for images, labels in train.take(3):
    with tf.GradientTape() as tape:
        loss = loss_fn(labels, model(images, training=True))
    eager.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
score = float(accuracy.result())
