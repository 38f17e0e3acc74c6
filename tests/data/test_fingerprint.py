"""Any value that changes is seen, whatever holds it; equal data are equal whatever their layout."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from keras_candle.data import fingerprint as module
from keras_candle.data.fingerprint import fingerprint

X = np.random.default_rng(0).normal(size=(97, 6))


def in_columns(x):
    return np.asfortranarray(x)


def in_a_file(x, folder):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


class Frame:
    """Rows as those of pandas are taken."""

    def __init__(self, x):
        self.iloc, self.shape = x, x.shape


KINDS = {
    "array": lambda x: x,
    "columns": in_columns,
    "every other": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "tensor": tf.constant,
    "text": lambda x: x.astype(str),
    "objects": lambda x: x.astype(object),
    "ragged": lambda x: tf.RaggedTensor.from_tensor(tf.constant(x)),
    "sparse": scipy.sparse.coo_matrix,
    "sparse tensor": lambda x: tf.sparse.from_dense(tf.constant(x)),
    "frame": Frame,
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_value_anywhere_is_seen(kind, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_BYTES", 1000)
    known = {repr(fingerprint(KINDS[kind](X)))}
    assert known == {repr(fingerprint(KINDS[kind](X.copy())))}
    for row, column in ((0, 0), (41, 3), (96, 5)):
        other = X.copy()
        other[row, column] += 1e-9
        known.add(repr(fingerprint(KINDS[kind](other))))
    assert len(known) == 4


def test_where_the_values_lie_does_not_matter(tmp_path):
    plain = fingerprint(X)
    assert fingerprint(in_columns(X)) == fingerprint(in_a_file(X, tmp_path)) == plain
    assert fingerprint([np.float64(3), X]) != fingerprint([np.float64(4), X])
    assert fingerprint(tf.constant(3.0)) != fingerprint(tf.constant(4.0))
    assert fingerprint(X[:50]) != fingerprint(X[:51])
