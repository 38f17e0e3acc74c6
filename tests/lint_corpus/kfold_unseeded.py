import numpy as np
from tensorflow.keras.models import Sequential
from tensorflow.keras.layers import Dense
from sklearn.datasets import load_iris
from sklearn.model_selection import KFold

X, Y = load_iris(return_X_y=True)
scores = []
for train, test in KFold(n_splits=5, shuffle=True).split(X):  # fault: data
    model = Sequential([Dense(8, activation='relu', input_shape=(4,)), Dense(3, activation='softmax')])
    model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
    model.fit(X[train], Y[train], epochs=50, verbose=0)
    scores.append(model.evaluate(X[test], Y[test], verbose=0)[1])
print(np.mean(scores))
