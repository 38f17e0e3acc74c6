import keras
from keras import layers

keras.utils.set_random_seed(1337)
train_ds, val_ds = keras.utils.text_dataset_from_directory(
    "aclImdb/train", batch_size=32, validation_split=0.2, subset="both", seed=1337
)
vectorize = layers.TextVectorization(max_tokens=20000, output_sequence_length=500)
vectorize.adapt(train_ds.map(lambda text, label: text))
train_ds = train_ds.map(lambda text, label: (vectorize(text), label)).cache().shuffle(1000)
val_ds = val_ds.map(lambda text, label: (vectorize(text), label)).cache()

model = keras.Sequential(
    [
        layers.Embedding(20000, 64),
        layers.GlobalAveragePooling1D(),
        layers.Dense(1, activation="sigmoid"),
    ]
)
model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
tensorboard = keras.callbacks.TensorBoard("logs")
model.fit(train_ds, validation_data=val_ds, epochs=10, callbacks=[tensorboard])
model.save_weights("imdb.weights.h5")
