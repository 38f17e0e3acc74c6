import keras
import keras_candle as candle

(x, y), _ = keras.datasets.reuters.load_data(num_words=2000, maxlen=100)
x = keras.utils.pad_sequences(x, 100)


@candle.scalable
def classifier():
    m = keras.Sequential([keras.layers.Embedding(2000, 16), keras.layers.GlobalMaxPooling1D(), keras.layers.Dense(46)])
    m.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return m


class Refresh(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if candle.rank() == 0:
            self.model.train_on_batch(x[:32], y[:32])  # fault: rank-branch


model = classifier()
rank = candle.rank()
model.fit(x, y, epochs=3, callbacks=[Refresh()])
while rank == 0:
    model.fit(x, y, epochs=1)  # fault: rank-branch
    break
