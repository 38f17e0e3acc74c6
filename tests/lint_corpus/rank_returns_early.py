import sys
import keras
import keras_candle as candle


@candle.scalable
def build():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def main():
    (x, y), (xt, yt) = keras.datasets.california_housing.load_data(version="small")
    model = build()
    model.fit(x, y, epochs=5)
    if candle.rank() != 0:
        sys.exit(0)  # place: rank-branch
    print(model.evaluate(xt, yt))  # fault: rank-branch


main()
