import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


def load(path):
    frame = pd.read_csv(path).dropna()
    y = frame.pop("target").to_numpy()
    x = StandardScaler().fit_transform(frame.to_numpy())
    return x + np.random.normal(0, 1e-3, x.shape), y  # fault: data


def split(x, y, settings):
    a, b, c, d = train_test_split(x, y, test_size=0.2, random_state=settings.seed, stratify=y)
    return (a, c), (b, d)


def describe(path, target="summary.csv"):
    """For the shell; the training does not call it."""
    pd.read_csv(path).describe().to_csv(target)


if __name__ == "__main__":
    np.save("sample.npy", np.random.rand(10))
    describe("table.csv")
