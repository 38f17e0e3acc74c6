"""python argparse_main.py --epochs 20 --out runs/1"""
import argparse
import json
import os
from tensorflow import keras


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--out", default="runs/1")
    return parser.parse_args()


def build(width=256):
    model = keras.Sequential()
    model.add(keras.layers.Input((784,)))
    model.add(keras.layers.Dense(width, activation="relu"))
    model.add(keras.layers.Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main():
    args = parse()
    os.makedirs(args.out)  # fault: folder
    (x, y), _ = keras.datasets.mnist.load_data()
    model = build()
    history = model.fit(x.reshape(-1, 784) / 255, y, batch_size=args.batch_size, epochs=args.epochs, validation_split=0.1)
    model.save(os.path.join(args.out, "model.keras"))
    with open(os.path.join(args.out, "history.json"), "w") as f:  # fault: write
        json.dump(history.history, f)


if __name__ == "__main__":
    main()
