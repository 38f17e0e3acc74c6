import argparse
import logging
import os
import pathlib
import random

import numpy as np
import tensorflow as tf
import keras_candle as candle

logging.basicConfig(level=logging.INFO)


def seed_everything(seed):
    os.environ["PYTHONHASHSEED"] = str(seed)
    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)


@candle.scalable(learning_rate_scaling="sqrt")
def build(rate):
    model = tf.keras.Sequential([tf.keras.layers.Dense(64, activation="relu"), tf.keras.layers.Dense(1)])
    model.compile(tf.keras.optimizers.Adam(rate), "mse")
    return model


def main(args):
    seed_everything(args.seed)
    x = np.random.uniform(-1, 1, (args.rows, 8))
    y = np.sin(x).sum(axis=1) + np.array([random.gauss(0, 0.1) for _ in range(args.rows)])
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(args.rows).batch(32)
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    model = build(args.rate)
    model.fit(dataset, epochs=args.epochs)
    model.save(pathlib.Path(args.out) / "model.keras")
    logging.info("done")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="out")
    main(parser.parse_args())
