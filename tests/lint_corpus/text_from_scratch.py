"""Text classification from raw files."""
import re
import string
import keras
import tensorflow as tf
from keras.layers import TextVectorization
from keras import layers

batch_size = 32
raw_train_ds = keras.utils.text_dataset_from_directory(  # fault: order
    "aclImdb/train", batch_size=batch_size
)
raw_val_ds = keras.utils.text_dataset_from_directory("aclImdb/test", batch_size=batch_size, shuffle=False)


def custom_standardization(input_data):
    lowercase = tf.strings.lower(input_data)
    return tf.strings.regex_replace(lowercase, f"[{re.escape(string.punctuation)}]", "")


vectorize = TextVectorization(standardize=custom_standardization, max_tokens=20000, output_sequence_length=500)
vectorize.adapt(raw_train_ds.map(lambda x, y: x))
train_ds = raw_train_ds.map(lambda x, y: (vectorize(x), y)).prefetch(10)
val_ds = raw_val_ds.map(lambda x, y: (vectorize(x), y)).prefetch(10)

inputs = keras.Input(shape=(None,), dtype="int64")
x = layers.Embedding(20000, 128)(inputs)
x = layers.Conv1D(128, 7, padding="valid", activation="relu", strides=3)(x)
x = layers.GlobalMaxPooling1D()(x)
model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
model.fit(train_ds, validation_data=val_ds, epochs=3)
