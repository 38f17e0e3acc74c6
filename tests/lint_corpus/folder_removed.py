import os
import shutil
import keras

if os.path.exists("logs"):
    shutil.rmtree("logs")  # fault: remove
if not os.path.isdir("checkpoints"):
    os.mkdir("checkpoints")  # fault: folder

(x, y), _ = keras.datasets.cifar10.load_data()
model = keras.Sequential(
    [keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(10)]
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(
    x / 255.0,
    y,
    epochs=5,
    callbacks=[keras.callbacks.TensorBoard("logs"), keras.callbacks.ModelCheckpoint("checkpoints/{epoch}.keras")],
)
