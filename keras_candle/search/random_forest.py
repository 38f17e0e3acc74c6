"""The random forest surrogate: for many categories, or very many trials.

The variance is that of the trees' means plus that of the values in their leaves (Hutter et al.,
Algorithm runtime prediction, 2014, section 4.3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_candle.search.history import Floats

_TREES = 40


@dataclass(frozen=True)
class RandomForest:
    """A random forest, fitted to observed values.

    Attributes:
        forest: the scikit-learn model.
        leaves: for each tree, float [nodes] standard deviations of the values in each node.
        features: float [n, f], the points.
        values: float [n], their values.
    """

    forest: Any
    leaves: tuple[Floats, ...]
    features: Floats
    values: Floats

    noise = 0.0

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Predict the mean and standard deviation of the function.

        Args:
            features: float [m, f].

        Returns:
            float [m] and float [m].
        """
        nodes = self.forest.apply(features)
        trees = self.forest.estimators_
        means = np.stack(
            [tree.tree_.value[at, 0, 0] for tree, at in zip(trees, nodes.T, strict=True)]
        )
        inner = np.stack([leaf[at] for leaf, at in zip(self.leaves, nodes.T, strict=True)])
        variance = means.var(axis=0) + (inner**2).mean(axis=0)
        floor = 1e-6 * max(float(self.values.std()), 1e-12)
        return means.mean(axis=0), np.sqrt(variance) + floor

    def with_points(self, features: Floats, values: Floats) -> RandomForest:
        """Return the same forest: it ignores pending points, which are only not proposed again."""
        del features, values
        return self


def fit_random_forest(
    features: Floats,
    values: Floats,
    rng: np.random.Generator,
    previous: RandomForest | None = None,
) -> RandomForest:
    """Fit a forest of extremely randomised trees.

    Args:
        features: float [n, f].
        values: float [n], finite.
        rng: draws the seed of the trees.
        previous: not used: a forest is fitted from scratch.

    Returns:
        The model; deterministic, given the generator's state.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    del previous
    forest = ExtraTreesRegressor(
        n_estimators=_TREES,
        min_samples_leaf=2 if len(values) > 8 else 1,
        random_state=int(rng.integers(2**31)),
    ).fit(features, values)
    leaves = tuple(np.sqrt(np.maximum(tree.tree_.impurity, 0)) for tree in forest.estimators_)
    return RandomForest(forest, leaves, features, values)
