import keras
import keras_candle as candle

(x, y), (xt, yt) = keras.datasets.imdb.load_data(num_words=5000)
x, xt = keras.utils.pad_sequences(x, 200), keras.utils.pad_sequences(xt, 200)


@candle.scalable
def build_model(kind="lstm"):
    recurrent = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}[kind]
    model = keras.Sequential(
        [keras.layers.Embedding(5000, 32), recurrent(32), keras.layers.Dense(1, activation="sigmoid")]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


scores = {}
for kind in ("lstm", "gru", "rnn"):
    model = build_model(kind)
    model.fit(x, y, epochs=2, batch_size=64)
    scores[kind] = model.evaluate(xt, yt, verbose=0)[1]
print(scores)
