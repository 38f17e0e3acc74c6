"""The warm ranks of tests/rank_pool.py, with Keras on NumPy and without TensorFlow."""

from __future__ import annotations

from tests.backend import without_tensorflow
from tests.rank_pool import serve

if __name__ == "__main__":
    without_tensorflow.prepare()
    serve()
