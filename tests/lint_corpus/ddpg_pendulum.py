"""Deep deterministic policy gradient in hand-written updates."""
import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf
from keras import layers

env = gym.make("Pendulum-v1")
num_states, num_actions = 3, 1


class Buffer:
    def __init__(self, capacity=50_000, batch_size=64):
        self.capacity, self.batch_size, self.count = capacity, batch_size, 0
        self.state = np.zeros((capacity, num_states), "float32")
        self.action = np.zeros((capacity, num_actions), "float32")
        self.reward = np.zeros((capacity, 1), "float32")
        self.next_state = np.zeros((capacity, num_states), "float32")

    def record(self, observation):
        index = self.count % self.capacity
        self.state[index], self.action[index], self.reward[index], self.next_state[index] = observation
        self.count += 1

    @tf.function
    def update(self, state, action, reward, next_state):
        with tf.GradientTape() as tape:
            target = reward + 0.99 * target_critic([next_state, target_actor(next_state)])
            loss = keras.ops.mean(keras.ops.square(target - critic([state, action])))
        grads = tape.gradient(loss, critic.trainable_variables)
        critic_optimizer.apply_gradients(zip(grads, critic.trainable_variables))  # fault: optimizer
        with tf.GradientTape() as tape:
            loss = -keras.ops.mean(critic([state, actor(state)]))
        grads = tape.gradient(loss, actor.trainable_variables)
        actor_optimizer.apply_gradients(zip(grads, actor.trainable_variables))  # fault: optimizer

    def learn(self):
        rows = np.random.choice(min(self.count, self.capacity), self.batch_size)
        self.update(*(tf.convert_to_tensor(a[rows]) for a in (self.state, self.action, self.reward, self.next_state)))


def get_actor():
    inputs = layers.Input((num_states,))
    out = layers.Dense(1, activation="tanh", kernel_initializer=keras.initializers.RandomUniform(-3e-3, 3e-3))
    return keras.Model(inputs, 2.0 * out(layers.Dense(256, activation="relu")(inputs)))


def get_critic():
    state, action = layers.Input((num_states,)), layers.Input((num_actions,))
    h = layers.Dense(256, activation="relu")(layers.Concatenate()([state, action]))
    return keras.Model([state, action], layers.Dense(1)(h))


actor, critic, target_actor, target_critic = get_actor(), get_critic(), get_actor(), get_critic()
target_actor.set_weights(actor.get_weights())
target_critic.set_weights(critic.get_weights())
actor_optimizer, critic_optimizer = keras.optimizers.Adam(1e-3), keras.optimizers.Adam(2e-3)
buffer = Buffer()
for episode in range(100):
    state, _ = env.reset()
    done = False
    while not done:
        action = np.squeeze(actor(state[None]).numpy()) + np.random.normal(0, 0.2)
        next_state, reward, terminated, truncated, _ = env.step([action])
        buffer.record((state, action, reward, next_state))
        buffer.learn()
        for target, source in ((target_actor, actor), (target_critic, critic)):
            target.set_weights([0.005 * b + 0.995 * a for a, b in zip(target.get_weights(), source.get_weights())])
        state, done = next_state, terminated or truncated
actor.save_weights("pendulum_actor.weights.h5")
