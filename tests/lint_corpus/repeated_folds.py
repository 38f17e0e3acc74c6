import numpy as np
import pandas as pd
from keras.layers import Dense
from keras.models import Sequential
from sklearn.model_selection import RepeatedKFold, LeaveOneOut

frame = pd.read_csv('sonar.csv', header=None)
X, y = frame.iloc[:, :60].to_numpy('float32'), (frame[60] == 'R').to_numpy('float32')
scores = []
for train, test in RepeatedKFold(n_splits=5, n_repeats=2).split(X):  # fault: data
    model = Sequential([Dense(60, activation='relu', input_shape=(60,)), Dense(1, activation='sigmoid')])
    model.compile(loss='binary_crossentropy', optimizer='adam', metrics=['accuracy'])
    model.fit(X[train], y[train], epochs=20, batch_size=5, verbose=0)
    scores.append(model.evaluate(X[test], y[test], verbose=0)[1])
print(np.mean(scores), sum(1 for _ in LeaveOneOut().split(X)))
