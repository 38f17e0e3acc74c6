"""fit on a loader of torch that shuffles."""
import keras
import numpy as np
import torch
import keras_candle as candle

x, y = np.load("x.npy").astype("float32"), np.load("y.npy").astype("float32")
dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
loader = torch.utils.data.DataLoader(dataset, batch_size=64, shuffle=True)  # fault: order, data, generator
held_out = torch.utils.data.DataLoader(dataset, batch_size=64, shuffle=False)


@candle.scalable
def net():
    m = keras.Sequential([keras.Input((x.shape[1],)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
    m.compile("adam", "mse")
    return m


net().fit(loader, validation_data=held_out, epochs=3)
