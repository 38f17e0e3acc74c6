"""Keras's own writers know of ranks; reading is no writing."""
import json
import os
import keras
import keras_candle as candle

os.makedirs("out", exist_ok=True)
with open("settings.json") as file:
    settings = json.load(file)


@candle.scalable
def build():
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(settings["units"], "relu"), keras.layers.Dense(10)])
    model.compile(settings["optimizer"], keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


(x, y), _ = keras.datasets.mnist.load_data()
model = build()
model.fit(
    x.reshape(-1, 784) / 255.0,
    y,
    epochs=settings["epochs"],
    callbacks=[
        keras.callbacks.CSVLogger("out/log.csv"),
        keras.callbacks.ModelCheckpoint("out/best.keras", monitor="loss", save_best_only=True),
    ],
)
model.save("out/last.keras")
model.save_weights("out/last.weights.h5")
again = keras.models.load_model("out/last.keras")
print(again.predict(x[:3].reshape(3, 784) / 255.0))
