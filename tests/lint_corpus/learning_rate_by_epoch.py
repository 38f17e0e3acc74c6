import keras
from keras.callbacks import LearningRateScheduler, ReduceLROnPlateau, TerminateOnNaN
from keras.layers import Dense, Dropout
from keras.models import Sequential


def step_decay(epoch, lr):
    return lr * 0.5 if epoch and epoch % 10 == 0 else lr


(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
model = Sequential()
model.add(keras.Input((784,)))
model.add(Dense(512, activation='relu'))
model.add(Dropout(0.2))
model.add(Dense(10, activation='softmax'))
model.compile(loss='sparse_categorical_crossentropy', optimizer='rmsprop', metrics=['accuracy'])
model.fit(x_train.reshape(60000, 784) / 255, y_train, batch_size=128, epochs=40, verbose=1,
          callbacks=[LearningRateScheduler(step_decay), TerminateOnNaN()],
          validation_data=(x_test.reshape(10000, 784) / 255, y_test))
