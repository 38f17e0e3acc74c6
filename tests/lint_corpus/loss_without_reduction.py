import keras
import keras_candle as candle

bce = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)  # fault: reduction


@candle.scalable
def build():
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)])
    model.compile("adam", loss=bce)
    return model


from sklearn.datasets import load_breast_cancer

x, y = load_breast_cancer(return_X_y=True)
build().fit(x, y, epochs=20)
