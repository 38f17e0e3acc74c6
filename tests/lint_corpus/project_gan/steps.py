import tensorflow as tf
from models import AdversarialModel


class WassersteinGAN(AdversarialModel):
    def train_step(self, real):
        rows = tf.shape(real)[0]
        with tf.GradientTape() as tape:
            scores = self.critic(self.generator(self.noise(rows))), self.critic(real)
            critic_loss = tf.reduce_mean(scores[0]) - tf.reduce_mean(scores[1])
        weights = self.critic.trainable_weights
        self.critic_optimizer.apply_gradients(zip(tape.gradient(critic_loss, weights), weights))
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(self.critic(self.generator(self.noise(rows))))
        weights = self.generator.trainable_weights
        self.generator_optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return {"critic": critic_loss, "generator": loss}
