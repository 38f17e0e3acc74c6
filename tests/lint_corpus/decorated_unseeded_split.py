import keras
import keras_candle as candle
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

features, labels = load_wine(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(features, labels, test_size=0.25)  # fault: data
scaler = StandardScaler().fit(x_train)
x_train, x_test = scaler.transform(x_train), scaler.transform(x_test)


@candle.scalable(warmup_epochs=2)
def make_model():
    inputs = keras.Input((13,))
    h = keras.layers.Dense(32, activation="gelu")(inputs)
    outputs = keras.layers.Dense(3)(h)
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


model = make_model()
model.fit(x_train, y_train, batch_size=16, epochs=30, validation_data=(x_test, y_test))
print(model.evaluate(x_test, y_test, return_dict=True))
