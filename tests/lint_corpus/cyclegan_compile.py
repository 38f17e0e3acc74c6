"""CycleGAN's two generators and two discriminators; optimizers and losses through compile."""
import keras
import tensorflow as tf
import tensorflow_datasets as tfds
from keras import layers

dataset, _ = tfds.load("cycle_gan/horse2zebra", with_info=True, as_supervised=True)
train_horses, train_zebras = dataset["trainA"], dataset["trainB"]


def prepare(ds):
    ds = ds.map(lambda image, _: tf.image.resize(image, (256, 256)) / 127.5 - 1.0)
    return ds.cache().shuffle(256).batch(1)  # fault: order


class CycleGan(keras.Model):
    def __init__(self, gen_g, gen_f, disc_x, disc_y, lambda_cycle=10.0):
        super().__init__()
        self.gen_g, self.gen_f, self.disc_x, self.disc_y = gen_g, gen_f, disc_x, disc_y
        self.lambda_cycle = lambda_cycle

    def compile(self, gen_optimizer, disc_optimizer):
        super().compile()
        self.gen_optimizer = gen_optimizer
        self.disc_optimizer = disc_optimizer
        self.adversarial = keras.losses.MeanSquaredError()
        self.cycle = keras.losses.MeanAbsoluteError()

    def train_step(self, batch):
        real_x, real_y = batch
        with tf.GradientTape(persistent=True) as tape:
            fake_y, fake_x = self.gen_g(real_x, training=True), self.gen_f(real_y, training=True)
            judged_y, judged_x = self.disc_y(fake_y, training=True), self.disc_x(fake_x, training=True)
            g_loss = self.adversarial(tf.ones_like(judged_y), judged_y) + self.adversarial(tf.ones_like(judged_x), judged_x)
            g_loss += self.lambda_cycle * (self.cycle(real_x, self.gen_f(fake_y)) + self.cycle(real_y, self.gen_g(fake_x)))
            d_loss = self.adversarial(tf.ones_like(judged_y), self.disc_y(real_y)) + self.adversarial(tf.zeros_like(judged_y), judged_y)
            d_loss += self.adversarial(tf.ones_like(judged_x), self.disc_x(real_x)) + self.adversarial(tf.zeros_like(judged_x), judged_x)
        gens = self.gen_g.trainable_variables + self.gen_f.trainable_variables
        discs = self.disc_x.trainable_variables + self.disc_y.trainable_variables
        self.gen_optimizer.apply_gradients(zip(tape.gradient(g_loss, gens), gens))
        self.disc_optimizer.apply_gradients(zip(tape.gradient(d_loss, discs), discs))
        return {"G": g_loss, "D": d_loss}


def net(out):
    return keras.Sequential([layers.Conv2D(64, 7, padding="same"), layers.LeakyReLU(), layers.Conv2D(out, 7, padding="same")])


model = CycleGan(net(3), net(3), net(1), net(1))
model.compile(keras.optimizers.Adam(2e-4, beta_1=0.5), keras.optimizers.Adam(2e-4, beta_1=0.5))
model.fit(tf.data.Dataset.zip((prepare(train_horses), prepare(train_zebras))), epochs=90)
