import keras
import tensorflow as tf
import keras_candle as candle

keras.utils.set_random_seed(2)
(x, y), _ = keras.datasets.mnist.load_data()
dataset = tf.data.Dataset.from_tensor_slices((x.reshape(-1, 784) / 255.0, y)).shuffle(1024, seed=2).batch(64)


@candle.scalable
def build_model():
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


model = build_model()
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
for images, labels in dataset:
    with tf.GradientTape() as tape:
        loss = loss_fn(labels, model(images, training=True))
    gradients = tape.gradient(loss, model.trainable_weights)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_weights))  # fault: loop
print(float(loss))
