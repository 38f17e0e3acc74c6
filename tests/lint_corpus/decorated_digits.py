import keras
import keras_candle as candle
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

x, y = load_digits(return_X_y=True)
x_train, x_val, y_train, y_val = train_test_split(x / 16, y, test_size=0.2, random_state=0)


@candle.scalable
def build_model(units=128, rate=0.2):
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(rate),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


model = build_model()
stop = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
best = keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True)
model.fit(x_train, y_train, validation_data=(x_val, y_val), epochs=50, callbacks=[stop, best])
model.save("digits.keras")
