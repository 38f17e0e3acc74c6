from keras.layers import Dense
from keras.models import Model
from keras.optimizers import Adam
import keras
import tensorflow as tf

adam = Adam(learning_rate=1e-3)


class Regressor(Model):
    def __init__(self):
        super().__init__()
        self.d1 = Dense(64, activation="relu")
        self.d2 = Dense(1)

    def call(self, inputs):
        return self.d2(self.d1(inputs))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.mean_squared_error(y, self(x, training=True)))
        grads = tape.gradient(loss, self.trainable_variables)
        adam.apply_gradients(zip(grads, self.trainable_variables))  # fault: optimizer
        return {"loss": loss}


(x_train, y_train), (x_test, y_test) = keras.datasets.california_housing.load_data(version="small")
model = Regressor()
model.compile()
model.fit(x_train, y_train.reshape(-1, 1), epochs=20, batch_size=128)
