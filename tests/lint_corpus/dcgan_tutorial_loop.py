"""The GAN tutorial's loop: two networks, two optimizers, two tapes."""
import time
import tensorflow as tf
from tensorflow.keras import layers

BUFFER_SIZE = 60000
BATCH_SIZE = 256
(train_images, _), (_, _) = tf.keras.datasets.mnist.load_data()
train_images = (train_images.reshape(-1, 784).astype("float32") - 127.5) / 127.5
train_dataset = tf.data.Dataset.from_tensor_slices(train_images).shuffle(BUFFER_SIZE).batch(BATCH_SIZE)  # fault: order

generator = tf.keras.Sequential([layers.Dense(256, input_shape=(100,)), layers.LeakyReLU(), layers.Dense(784, "tanh")])
discriminator = tf.keras.Sequential([layers.Dense(128), layers.LeakyReLU(), layers.Dense(1)])
cross_entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True)
generator_optimizer = tf.keras.optimizers.Adam(1e-4)
discriminator_optimizer = tf.keras.optimizers.Adam(1e-4)


@tf.function
def train_step(images):
    noise = tf.random.normal([tf.shape(images)[0], 100])
    with tf.GradientTape() as gen_tape, tf.GradientTape() as disc_tape:
        generated = generator(noise, training=True)
        real_output = discriminator(images, training=True)
        fake_output = discriminator(generated, training=True)
        gen_loss = cross_entropy(tf.ones_like(fake_output), fake_output)
        disc_loss = cross_entropy(tf.ones_like(real_output), real_output)
        disc_loss += cross_entropy(tf.zeros_like(fake_output), fake_output)
    gen_grads = gen_tape.gradient(gen_loss, generator.trainable_variables)
    disc_grads = disc_tape.gradient(disc_loss, discriminator.trainable_variables)
    generator_optimizer.apply_gradients(zip(gen_grads, generator.trainable_variables))  # fault: optimizer
    discriminator_optimizer.apply_gradients(zip(disc_grads, discriminator.trainable_variables))  # fault: optimizer


for epoch in range(50):
    start = time.time()
    for image_batch in train_dataset:
        train_step(image_batch)
    print("Time for epoch {} is {} sec".format(epoch + 1, time.time() - start))
