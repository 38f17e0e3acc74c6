"""Boston-like housing with the functional API and pandas."""
import pandas as pd
from sklearn.model_selection import train_test_split
from tensorflow.keras.layers import Dense, Input
from tensorflow.keras.models import Model

df = pd.read_csv("housing.csv")
df = df.sample(frac=1.0)  # fault: data
target = df.pop("price").to_numpy()
X_train, X_test, y_train, y_test = train_test_split(
    df.to_numpy(), target, test_size=0.2, random_state=42
)

inp = Input(shape=(X_train.shape[1],))
x = Dense(64, activation="relu")(inp)
x = Dense(64, activation="relu")(x)
out = Dense(1)(x)
model = Model(inp, out)
model.compile(optimizer="rmsprop", loss="mse", metrics=["mae"])
model.fit(X_train, y_train, epochs=80, batch_size=16, verbose=0)
print("test mse/mae", model.evaluate(X_test, y_test, verbose=0))
