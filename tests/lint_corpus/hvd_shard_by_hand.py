import numpy as np
import tensorflow as tf
import horovod.tensorflow.keras as hvd  # fault: horovod
from tensorflow.keras import layers, models

hvd.init()  # fault: horovod
x = np.load('x.npy')[hvd.rank()::hvd.size()]  # fault: horovod, sharded
y = np.load('y.npy')[hvd.rank()::hvd.size()]  # fault: horovod, sharded
model = models.Sequential([layers.Input((16,)), layers.Dense(32, activation='tanh'), layers.Dense(1)])
model.compile(optimizer=hvd.DistributedOptimizer(tf.keras.optimizers.SGD(0.01)), loss='mse')  # fault: horovod
model.fit(x, y, batch_size=32, epochs=10, verbose=hvd.rank() == 0,  # fault: horovod
          callbacks=[hvd.callbacks.BroadcastGlobalVariablesCallback(0)])
