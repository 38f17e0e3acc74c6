import keras
import tensorflow as tf
import keras_candle as candle


class PlainSGD(keras.Model):
    def __init__(self, units=32, rate=0.05):
        super().__init__()
        self.hidden = keras.layers.Dense(units, "relu")
        self.out = keras.layers.Dense(1)
        self.rate = rate

    def call(self, x):
        return self.out(self.hidden(x))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(x, training=True) - y))
        gradients = tape.gradient(loss, self.trainable_variables)
        for variable, gradient in zip(self.trainable_variables, gradients):
            variable.assign_sub(self.rate * gradient)  # fault: assign
        return {"loss": loss}


@candle.scalable
def build():
    model = PlainSGD()
    model.compile()
    return model


from sklearn.datasets import load_diabetes

x, y = load_diabetes(return_X_y=True)
build().fit(x, y[:, None], batch_size=32, epochs=30)
