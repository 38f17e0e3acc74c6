"""Character-level text generation with LSTM (not stateful)."""
import random
import numpy as np
import keras
from keras import layers

path = keras.utils.get_file("nietzsche.txt", origin="https://s3.amazonaws.com/text-datasets/nietzsche.txt")
with open(path, encoding="utf-8") as f:
    text = f.read().lower().replace("\n", " ")
chars = sorted(set(text))
char_indices = {c: i for i, c in enumerate(chars)}
maxlen, step = 40, 3
sentences = [text[i : i + maxlen] for i in range(0, len(text) - maxlen, step)]
next_chars = [text[i + maxlen] for i in range(0, len(text) - maxlen, step)]
x = np.zeros((len(sentences), maxlen, len(chars)), dtype="bool")
y = np.zeros((len(sentences), len(chars)), dtype="bool")
for i, sentence in enumerate(sentences):
    for t, char in enumerate(sentence):
        x[i, t, char_indices[char]] = 1
    y[i, char_indices[next_chars[i]]] = 1

model = keras.Sequential([keras.Input((maxlen, len(chars))), layers.LSTM(128), layers.Dense(len(chars), activation="softmax")])
model.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.RMSprop(learning_rate=0.01))


def sample(preds, temperature=1.0):
    preds = np.exp(np.log(np.asarray(preds).astype("float64")) / temperature)
    return np.argmax(np.random.multinomial(1, preds / np.sum(preds), 1))


for epoch in range(40):
    model.fit(x, y, batch_size=128, epochs=1)
    start_index = random.randint(0, len(text) - maxlen - 1)
    sentence = text[start_index : start_index + maxlen]
    for i in range(40):
        x_pred = np.zeros((1, maxlen, len(chars)))
        next_char = chars[sample(model.predict(x_pred, verbose=0)[0], 0.5)]
        sentence = sentence[1:] + next_char
    print("...Generated: ", sentence)
