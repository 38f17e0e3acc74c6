import csv
import logging
import sqlite3
import keras
import numpy as np
import keras_candle as candle

logging.basicConfig(filename="train.log", level=logging.INFO)  # fault: write


@candle.scalable
def net():
    m = keras.Sequential([keras.Input((20,)), keras.layers.Dense(1)])
    m.compile("sgd", "mse")
    return m


data = np.load("data.npz")
history = net().fit(data["x"], data["y"], epochs=3)
with open("history.csv", "a", newline="") as file:  # fault: write
    csv.writer(file).writerow(history.history["loss"])
np.savez("losses.npz", **history.history)  # fault: write
logging.info("done")
