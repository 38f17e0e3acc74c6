import keras
from keras import layers


def build_critic(width=32):
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(width, 4, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )


def build_generator(latent=64):
    return keras.Sequential(
        [
            keras.Input((latent,)),
            layers.Dense(8 * 8 * 64),
            layers.Reshape((8, 8, 64)),
            layers.Conv2DTranspose(32, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(3, 4, strides=2, padding="same", activation="tanh"),
        ]
    )


class AdversarialModel(keras.Model):
    """What all of the project's models have in common."""

    def __init__(self, critic, generator, latent):
        super().__init__()
        self.critic, self.generator, self.latent = critic, generator, latent
        self.seeds = keras.random.SeedGenerator(3)

    def compile(self, critic_optimizer, generator_optimizer, **kwargs):
        super().compile(**kwargs)
        self.critic_optimizer = critic_optimizer
        self.generator_optimizer = generator_optimizer

    def noise(self, rows):
        return keras.random.normal((rows, self.latent), seed=self.seeds)
