"""English to Spanish with a sequence-to-sequence GRU."""
import random
import keras
import numpy as np
import tensorflow as tf
from keras import layers

with open("spa-eng/spa.txt") as f:
    lines = f.read().split("\n")[:-1]
text_pairs = [(line.split("\t")[0], "[start] " + line.split("\t")[1] + " [end]") for line in lines]
random.shuffle(text_pairs)  # fault: data
num_val = int(0.15 * len(text_pairs))
train_pairs, val_pairs = text_pairs[num_val:], text_pairs[:num_val]
source, target = (layers.TextVectorization(max_tokens=15000, output_sequence_length=n) for n in (20, 21))
source.adapt([p[0] for p in train_pairs])
target.adapt([p[1] for p in train_pairs])


def make_dataset(pairs):
    eng, spa = source([p[0] for p in pairs]), target([p[1] for p in pairs])
    dataset = tf.data.Dataset.from_tensor_slices(((eng, spa[:, :-1]), spa[:, 1:]))
    return dataset.batch(64).prefetch(16).cache()


encoder_inputs = keras.Input((None,), dtype="int64")
state = layers.GRU(256)(layers.Embedding(15000, 256)(encoder_inputs))
decoder_inputs = keras.Input((None,), dtype="int64")
x = layers.GRU(256, return_sequences=True)(layers.Embedding(15000, 256)(decoder_inputs), initial_state=state)
model = keras.Model([encoder_inputs, decoder_inputs], layers.Dense(15000, activation="softmax")(x))
model.compile("rmsprop", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
model.fit(make_dataset(train_pairs), epochs=30, validation_data=make_dataset(val_pairs))
