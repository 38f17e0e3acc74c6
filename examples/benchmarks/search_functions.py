"""Functions whose minimum is known, on the unit cube, for the search benchmark.

The minimum of each stands neither in the middle nor on a border of the subspaces that HyperSpace
cuts (where the halves end at .375 and .625), and not on the cube's diagonal.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Where functions that have their minimum in the middle of their domain are moved to.
PLACES = np.array([0.283, 0.701, 0.441, 0.827, 0.189, 0.556, 0.717, 0.342, 0.586, 0.232])


@dataclass(frozen=True)
class Problem:
    """A function to be minimised.

    Attributes:
        name: short.
        dimensions: of the unit cube.
        value: of a float [dimensions] point of the unit cube.
        minimum: the least value.
    """

    name: str
    dimensions: int
    value: Callable[[Floats], float]
    minimum: float


def branin(u: Floats) -> float:
    x, y = 15 * u[0] - 5, 15 * u[1]
    bent = y - 5.1 * x**2 / (4 * np.pi**2) + 5 * x / np.pi - 6
    return float(bent**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10)


def hartmann6(u: Floats) -> float:
    weights = np.array([1.0, 1.2, 3.0, 3.2])
    slopes = np.array(
        [
            [10, 3, 17, 3.5, 1.7, 8],
            [0.05, 10, 17, 0.1, 8, 14],
            [3, 3.5, 1.7, 10, 17, 8],
            [17, 8, 0.05, 10, 0.1, 14],
        ]
    )
    centres = 1e-4 * np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    )
    return float(-weights @ np.exp(-(slopes * (u - centres) ** 2).sum(axis=1)))


def styblinski_tang(u: Floats) -> float:
    """Every second dimension is mirrored."""
    x = 10 * np.where(np.arange(len(u)) % 2, 1 - u, u) - 5
    return float((x**4 - 16 * x**2 + 5 * x).sum() / 2)


def rastrigin(u: Floats) -> float:
    x = 10.24 * (u - PLACES[: len(u)])
    return float(10 * len(u) + (x**2 - 10 * np.cos(2 * np.pi * x)).sum())


def ackley(u: Floats) -> float:
    x = 65.536 * (u - PLACES[: len(u)])
    hills = -20 * np.exp(-0.2 * np.sqrt((x**2).mean()))
    return float(hills - np.exp(np.cos(2 * np.pi * x).mean()) + 20 + np.e)


def levy(u: Floats) -> float:
    w = 1 + 20 * (u - PLACES[: len(u)]) / 4
    first = np.sin(np.pi * w[0]) ** 2
    inner = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)
    last = (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)
    return float(first + inner.sum() + last)


_TANG = -39.16616570377142
PROBLEMS = {
    each.name: each
    for each in (
        Problem("branin", 2, branin, 0.39788735772973816),
        Problem("hartmann6", 6, hartmann6, -3.32236801141551),
        Problem("styblinski5", 5, styblinski_tang, 5 * _TANG),
        Problem("styblinski10", 10, styblinski_tang, 10 * _TANG),
        Problem("rastrigin5", 5, rastrigin, 0.0),
        Problem("ackley5", 5, ackley, 0.0),
        Problem("levy8", 8, levy, 0.0),
    )
}


def bbob(dimensions: int = 5, instance: int = 1) -> dict[str, Problem]:
    """The 24 functions of BBOB, from the package coco-experiment.

    Raises:
        ModuleNotFoundError: when it is not installed.
    """
    import cocoex

    choice = f"dimensions: {dimensions} instance_indices: {instance}"
    suite = cocoex.Suite("bbob", "", choice)
    found = {}
    for number in range(len(suite)):
        problem = suite.get_problem(number)
        with _temporary_directory():
            # It writes its answer into a file of the working directory.
            problem._best_parameter("print")
            best = np.loadtxt("._bbob_problem_best_parameter.txt")

        def value(u: Floats, problem: object = problem) -> float:
            return float(problem(10 * u - 5))  # type: ignore[operator]

        name = f"bbob{problem.id_function:02d}"
        found[name] = Problem(name, dimensions, value, float(problem(best)))
    return found


@contextlib.contextmanager
def _temporary_directory() -> Iterator[None]:
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            yield
        finally:
            os.chdir(before)
