import os
import pickle
import urllib.request
import keras
import numpy as np

if not os.path.exists('wine.csv'):
    urllib.request.urlretrieve('http://archive.ics.uci.edu/wine.csv', 'wine.csv')  # fault: write
data = np.genfromtxt('wine.csv', delimiter=';', skip_header=1)
x, y = data[:, :-1], data[:, -1]
mean, std = x.mean(0), x.std(0)
pickle.dump((mean, std), open('scaler.pkl', 'wb'))  # fault: write
model = keras.Sequential([keras.layers.Dense(32, activation='relu'), keras.layers.Dense(1)])
model.compile('adam', 'mse')
model.fit((x - mean) / std, y, epochs=10, validation_split=0.2)
with open('summary.txt', 'w') as f:  # fault: write
    model.summary(print_fn=lambda line: f.write(line + '\n'))
