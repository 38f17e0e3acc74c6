"""Saving and loading in the middle: models, weights, arrays, JSON, folders, temporary files."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

if not os.path.exists("results"):
    os.makedirs("results/plots")
if os.path.exists("old"):
    shutil.rmtree("old")
Path("old").mkdir()

x = np.random.random((640, 5))
y = (x.sum(axis=1) > 2.5).astype("float32")
np.savez("results/data.npz", x=x, y=y)
with np.load("results/data.npz") as data:
    np.testing.assert_array_equal(data["x"], x)

model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
model.compile(
    keras.optimizers.Adam(0.04),
    keras.losses.BinaryCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
checkpoint = keras.callbacks.ModelCheckpoint("results/epoch-{epoch}.keras")
history = model.fit(x, y, epochs=4, batch_size=16, callbacks=[checkpoint], verbose=0)
with open("results/history.json", "w") as file:
    json.dump(history.history, file)
with open("results/history.json") as file:
    assert len(json.load(file)["loss"]) == 4
newest = max(Path("results").glob("*.keras"), key=os.path.getctime)
assert newest.name == "epoch-4.keras", newest

for name in ("results/whole.keras", f"results/{time.time_ns()}.keras"):
    model.save(name)
    model = keras.models.load_model(name)
    model.fit(x, y, epochs=2, batch_size=16, verbose=0)
with tempfile.TemporaryDirectory() as folder:
    model.save_weights(os.path.join(folder, "own.weights.h5"))
    model.load_weights(os.path.join(folder, "own.weights.h5"))
keras.saving.save_model(model, "results/again.keras")
copy = keras.models.clone_model(model)  # never compiled
copy.set_weights(model.get_weights())
copy.save_weights("results/copy.weights.h5")
copy.load_weights("results/copy.weights.h5")
os.replace("results/history.json", "results/renamed.json")
assert "history.json" not in os.listdir("results")
(Path("old") / "note.txt").write_text("kept")
shutil.copy("old/note.txt", "results/note.txt")
assert Path("results/note.txt").read_text() == "kept"

models = [model, copy]
score = model.evaluate(x, y, verbose=0)[1]
