"""A second model that only predicts needs no scaling."""
import keras
from keras import layers
import keras_candle as candle

(x, y), (xt, yt) = keras.datasets.fashion_mnist.load_data()
x, xt = x[..., None] / 255.0, xt[..., None] / 255.0


@candle.scalable
def classifier():
    inputs = keras.Input((28, 28, 1))
    h = layers.Conv2D(16, 3, activation="relu")(inputs)
    features = layers.GlobalMaxPooling2D(name="features")(h)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(features))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


model = classifier()
model.fit(x, y, epochs=3)
extractor = keras.Model(model.inputs, model.get_layer("features").output)
embeddings = extractor.predict(xt)
print(embeddings.mean(axis=0), model.evaluate(xt, yt))
