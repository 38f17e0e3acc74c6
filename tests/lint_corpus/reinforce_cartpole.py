"""Actor critic: each rank would play its own games."""
import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

env = gym.make("CartPole-v1")
inputs = layers.Input(shape=(4,))
common = layers.Dense(128, activation="relu")(inputs)
action = layers.Dense(2, activation="softmax")(common)
critic = layers.Dense(1)(common)
model = keras.Model(inputs=inputs, outputs=[action, critic])
optimizer = keras.optimizers.Adam(learning_rate=0.01)
huber_loss = keras.losses.Huber()

for episode in range(500):
    state, _ = env.reset(seed=episode)
    rewards, probs, values = [], [], []
    with tf.GradientTape() as tape:
        for timestep in range(500):
            action_probs, value = model(ops.expand_dims(ops.convert_to_tensor(state), 0))
            choice = np.random.choice(2, p=np.squeeze(action_probs))
            probs.append(ops.log(action_probs[0, choice]))
            values.append(value[0, 0])
            state, reward, done, *_ = env.step(choice)
            rewards.append(reward)
            if done:
                break
        returns = np.cumsum(rewards[::-1])[::-1].astype("float32")
        loss = sum(-p * (r - float(v)) for p, r, v in zip(probs, returns, values))
        loss += sum(huber_loss(ops.expand_dims(v, 0), ops.expand_dims(r, 0)) for r, v in zip(returns, values))
    grads = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(grads, model.trainable_variables))  # fault: optimizer
