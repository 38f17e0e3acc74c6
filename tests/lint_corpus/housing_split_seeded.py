import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.utils import shuffle
from tensorflow.keras.layers import Dense, Input
from tensorflow.keras.models import Model

frame = pd.read_csv("housing.csv").sample(frac=1.0, random_state=11)
target = frame.pop("price").to_numpy()
values, target = shuffle(frame.to_numpy(), target, random_state=1)
X_train, X_test, y_train, y_test = train_test_split(values, target, random_state=2)

inp = Input(shape=(X_train.shape[1],))
out = Dense(1)(Dense(64, activation="relu")(inp))
model = Model(inp, out)
model.compile(optimizer="rmsprop", loss="mse", metrics=["mae"])
model.fit(X_train, y_train, epochs=80, batch_size=16, verbose=0)
print(model.evaluate(X_test, y_test, verbose=0))
