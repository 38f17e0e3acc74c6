#!/usr/bin/env python
# coding: utf-8

# In[1]:

import os
import numpy as np
import pandas as pd
import keras

# In[2]:

df = pd.read_csv("jena_climate_2009_2016.csv")
values = df.iloc[:, 1:].to_numpy()
mean, std = values[:300000].mean(axis=0), values[:300000].std(axis=0)
values = (values - mean) / std

# In[3]:

train = keras.utils.timeseries_dataset_from_array(
    values[:300000], values[720:300720, 1], sequence_length=120, sampling_rate=6, batch_size=256
)
val = keras.utils.timeseries_dataset_from_array(
    values[300000:-720], values[300720:, 1], sequence_length=120, sampling_rate=6, batch_size=256
)

# In[4]:

inputs = keras.layers.Input(shape=(120, values.shape[1]))
outputs = keras.layers.Dense(1)(keras.layers.LSTM(32)(inputs))
model = keras.Model(inputs=inputs, outputs=outputs)
model.compile(optimizer=keras.optimizers.Adam(0.001), loss="mse")

# In[5]:

checkpoint = keras.callbacks.ModelCheckpoint("model_checkpoint.weights.h5", monitor="val_loss", save_weights_only=True, save_best_only=True)
history = model.fit(train, epochs=10, validation_data=val, callbacks=[checkpoint, keras.callbacks.EarlyStopping(patience=5)])
pd.DataFrame(history.history).to_csv("history.csv")  # fault: write
