import keras
import tensorflow as tf
import keras_candle

(x, y), (xt, yt) = keras.datasets.mnist.load_data()
train = tf.data.Dataset.from_tensor_slices((x.reshape(-1, 784) / 255.0, y)).batch(64)


def net():
    return keras.Sequential([keras.Input((784,)), keras.layers.Dense(128, "relu"), keras.layers.Dense(10)])


model = keras_candle.scale(net())
model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))


@tf.function
def step(images, labels):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(images, labels, model(images, training=True))
    grads = tape.gradient(loss, model.trainable_variables)
    model.optimizer.apply(grads, model.trainable_variables)  # fault: loop
    return loss


for epoch in range(3):
    for images, labels in train:
        loss = step(images, labels)
    print(epoch, float(loss))
model.evaluate(xt.reshape(-1, 784) / 255.0, yt)
