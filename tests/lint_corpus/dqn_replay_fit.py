"""Deep Q learning by train_on_batch on a replay of each rank's own games."""
import collections
import random
import gymnasium as gym
import numpy as np
from keras import Input, Sequential
from keras.layers import Dense
from keras.optimizers import Adam
import keras_candle as candle


@candle.scalable
def q_network(states=4, actions=2):
    model = Sequential([Input((states,)), Dense(24, activation='relu'), Dense(24, activation='relu'), Dense(actions)])
    model.compile(loss='mse', optimizer=Adam(learning_rate=0.001))
    return model


env = gym.make('CartPole-v1')
memory = collections.deque(maxlen=2000)
model = q_network()
epsilon = 1.0
state, _ = env.reset()
for step in range(20_000):
    if np.random.rand() < epsilon:
        action = env.action_space.sample()
    else:
        action = int(np.argmax(model.predict(state[None], verbose=0)))
    following, reward, done, *_ = env.step(action)
    memory.append((state, action, reward, following, done))
    state = env.reset()[0] if done else following
    if len(memory) >= 64:
        batch = random.sample(memory, 32)
        states = np.array([b[0] for b in batch])
        targets = model.predict(states, verbose=0)
        best = model.predict(np.array([b[3] for b in batch]), verbose=0).max(axis=1)
        for i, (_, a, r, _, d) in enumerate(batch):
            targets[i, a] = r if d else r + 0.95 * best[i]
        model.train_on_batch(states, targets)
        epsilon = max(0.01, epsilon * 0.9995)
