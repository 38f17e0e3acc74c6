import numpy as np
from tensorflow.keras.models import Sequential
from tensorflow.keras.layers import Dense
import keras_candle as candle
from sklearn.datasets import load_iris
from sklearn.model_selection import StratifiedKFold

X, Y = load_iris(return_X_y=True)


def get_model():
    m = Sequential([Dense(8, activation='relu', input_shape=(4,)), Dense(3, activation='softmax')])
    m.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
    return m


scores = []
for train, test in StratifiedKFold(5, shuffle=True, random_state=3).split(X, Y):
    model = candle.scale(get_model())
    model.fit(X[train], Y[train], epochs=50, verbose=0)
    scores.append(model.evaluate(X[test], Y[test], verbose=0)[1])
print(np.mean(scores), np.std(scores))
