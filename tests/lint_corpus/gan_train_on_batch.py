"""A GAN with two compiled models and train_on_batch."""
import numpy as np
from keras.layers import Dense, Input, LeakyReLU
from keras.models import Model, Sequential
from keras.optimizers import Adam
import keras
import keras_candle as candle

keras.utils.set_random_seed(4)


@candle.scalable
def build_discriminator():
    model = Sequential([Input((784,)), Dense(256), LeakyReLU(), Dense(1, activation="sigmoid")])
    model.compile(loss="binary_crossentropy", optimizer=Adam(0.0002, 0.5), metrics=["accuracy"])
    return model


def build_generator():
    return Sequential([Input((64,)), Dense(256), LeakyReLU(), Dense(784, activation="tanh")])


discriminator = build_discriminator()
generator = build_generator()
z = Input(shape=(64,))
discriminator.trainable = False
combined = Model(z, discriminator(generator(z)))
combined.compile(loss="binary_crossentropy", optimizer=Adam(0.0002, 0.5))  # fault: unscaled

(images, _), _ = keras.datasets.mnist.load_data()
images = images.reshape(-1, 784) / 127.5 - 1.0
for step in range(2000):
    real = images[np.random.randint(0, len(images), 32)]
    fake = generator.predict(np.random.normal(0, 1, (32, 64)), verbose=0)
    discriminator.train_on_batch(real, np.ones((32, 1)))
    discriminator.train_on_batch(fake, np.zeros((32, 1)))
    combined.train_on_batch(np.random.normal(0, 1, (32, 64)), np.ones((32, 1)))  # place: unscaled
