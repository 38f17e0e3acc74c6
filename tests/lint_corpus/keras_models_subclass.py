"""`from keras.models import Model`: its own optimizers belong to the model."""
from keras.layers import Dense
from keras.models import Model
from keras.optimizers import Adam
import keras
import tensorflow as tf


class ActorCritic(Model):
    def __init__(self, actions):
        super().__init__()
        self.actor = keras.Sequential([Dense(64, "tanh"), Dense(actions)])
        self.critic = keras.Sequential([Dense(64, "tanh"), Dense(1)])
        self.actor_optimizer = Adam(3e-4)
        self.critic_optimizer = Adam(1e-3)

    def train_step(self, data):
        states, (actions, returns) = data
        with tf.GradientTape(persistent=True) as tape:
            values = self.critic(states, training=True)[:, 0]
            advantage = tf.stop_gradient(returns - values)
            picked = keras.losses.sparse_categorical_crossentropy(actions, self.actor(states), from_logits=True)
            actor_loss = tf.reduce_mean(picked * advantage)
            critic_loss = tf.reduce_mean(tf.square(returns - values))
        a, c = self.actor.trainable_variables, self.critic.trainable_variables
        self.actor_optimizer.apply_gradients(zip(tape.gradient(actor_loss, a), a))
        self.critic_optimizer.apply_gradients(zip(tape.gradient(critic_loss, c), c))
        return {"actor": actor_loss, "critic": critic_loss}


import numpy as np

log = np.load("episodes.npz")
agent = ActorCritic(4)
agent.compile()
agent.fit(log["states"], (log["actions"], log["returns"]), epochs=3, batch_size=256)
