"""Seeds by arguments and by a helper of the project."""
import argparse
import numpy as np
import random
import tensorflow as tf
from tensorflow import keras


def set_seed(seed=42):
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def mixup(x, y, alpha=0.2):
    lam = np.random.beta(alpha, alpha)
    index = np.random.permutation(len(x))
    return lam * x + (1 - lam) * x[index], lam * y + (1 - lam) * y[index]


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()
    set_seed(args.seed)
    (x, y), _ = keras.datasets.mnist.load_data()
    x, y = x[..., None] / 255., keras.utils.to_categorical(y)
    order = list(range(len(x)))
    random.shuffle(order)
    x, y = mixup(x[order], y[order])
    train = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(5000).batch(64)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10, activation='softmax')])
    model.compile('adam', 'categorical_crossentropy')
    model.fit(train, epochs=2)
