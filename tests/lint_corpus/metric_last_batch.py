import tensorflow as tf
from tensorflow import keras


class RunningMin(keras.metrics.Metric):
    def __init__(self, **kw):
        super().__init__(**kw)
        self.low = self.add_weight(name='low', initializer='ones')

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.low.assign(tf.minimum(self.low, tf.reduce_min(y_pred)))  # fault: metric

    def result(self):
        return self.low


(x, y), _ = keras.datasets.boston_housing.load_data()
net = keras.Sequential([keras.layers.Dense(8, activation='relu'), keras.layers.Dense(1)])
net.compile('adam', 'mse', metrics=[RunningMin(name='low'), 'mae'])
net.fit(x, y, epochs=5)
