import keras
from keras import layers
from sklearn.metrics import classification_report

num_tags, num_words = 12, 10000
title = keras.Input(shape=(None,), name="title")
body = keras.Input(shape=(None,), name="body")
tags = keras.Input(shape=(num_tags,), name="tags")
t = layers.LSTM(128)(layers.Embedding(num_words, 64)(title))
b = layers.LSTM(32)(layers.Embedding(num_words, 64)(body))
x = layers.concatenate([t, b, tags])
priority = layers.Dense(1, name="priority")(x)
department = layers.Dense(4, name="department")(x)
model = keras.Model(inputs=[title, body, tags], outputs={"priority": priority, "department": department})
keras.utils.plot_model(model, "multi_input_and_output_model.png", show_shapes=True)  # fault: write
model.compile(
    optimizer=keras.optimizers.RMSprop(1e-3),
    loss={
        "priority": keras.losses.BinaryCrossentropy(from_logits=True),
        "department": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    },
    loss_weights={"priority": 1.0, "department": 0.2},
)
import numpy as np

data = np.load("tickets.npz")
model.fit(
    {"title": data["title"], "body": data["body"], "tags": data["tags"]},
    {"priority": data["priority"], "department": data["department"]},
    epochs=2,
    batch_size=32,
)
print(classification_report(data["department"], model.predict(data)["department"].argmax(1)))
