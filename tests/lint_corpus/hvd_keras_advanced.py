import argparse
import math
import keras
import horovod.keras as hvd  # fault: horovod
from keras.layers import Conv2D, Dense, Flatten
from keras.models import Sequential

parser = argparse.ArgumentParser()
parser.add_argument('--epochs', type=int, default=24)
parser.add_argument('--base-lr', type=float, default=1.0)
args = parser.parse_args()

hvd.init()  # fault: horovod
batch_size = 128
epochs = int(math.ceil(args.epochs / hvd.size()))  # fault: horovod
(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
x_train, x_test = x_train[..., None] / 255, x_test[..., None] / 255

model = Sequential([keras.Input((28, 28, 1)), Conv2D(32, 3, activation='relu'), Flatten(), Dense(10, activation='softmax')])
opt = keras.optimizers.Adadelta(args.base_lr * hvd.size())  # fault: horovod
opt = hvd.DistributedOptimizer(opt)  # fault: horovod
model.compile(loss='sparse_categorical_crossentropy', optimizer=opt, metrics=['accuracy'])
callbacks = [hvd.callbacks.BroadcastGlobalVariablesCallback(0)]  # fault: horovod
if hvd.rank() == 0:  # fault: horovod
    callbacks.append(keras.callbacks.ModelCheckpoint('./checkpoint-{epoch}.keras'))  # note: callback-test
model.fit(x_train, y_train, batch_size=batch_size, callbacks=callbacks, epochs=epochs,
          validation_data=(x_test, y_test))
score = hvd.allreduce(model.evaluate(x_test, y_test, verbose=0)[1])  # fault: horovod
print('Test accuracy:', score)
