"""Architecture search at equal trials: our search, regularised evolution, random search.

    python -m examples.benchmarks.architecture_search --table architecture_tables.json

Every architecture of two small spaces was trained, for real and once, on a task of its own
(examples.benchmarks.architecture_tables; what is missing in the table is trained first). All
searchers read the same table, so that a search takes seconds and all differ in what they choose
only. Printed are, after so many trials, the median over the seeds of the best validation loss
found, less the lowest of the table ("regret"), the ratios to the others', and the median number
of trials until an architecture among the best hundredth was found.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from examples.benchmarks import architecture_tables as tables
from examples.benchmarks.claims import claim
from keras_candle.search.ask import AskSettings, suggest
from keras_candle.search.hyperparameters import UnitCube
from keras_candle.search.space import Floats, SearchSpace
from keras_candle.search.subspaces import decompose
from keras_candle.search.surrogate_data import History

BUDGETS = (16, 24, 32, 48)
SETTINGS = AskSettings(budget=BUDGETS[-1])
OURS = "search in subspaces"
# The better of several settings at these budgets; the paper's population of 100 is random search
# for all of them.
POPULATION, TOURNAMENT = 16, 5
Propose = Callable[[SearchSpace, History, np.random.Generator], Any]


def subspaces(space: SearchSpace, history: History, rng: np.random.Generator) -> Any:
    """The search of `keras_candle`, as one worker has it."""
    found = suggest(space, history, decompose(space, 1), 0, SETTINGS, rng)
    return None if found is None else found.unit


def random_search(space: SearchSpace, history: History, rng: np.random.Generator) -> Any:
    """A random untried architecture."""
    tried = set(space.keys(history.units))
    points = space.all_points()
    return rng.choice(points[[key not in tried for key in space.keys(points)]])


def evolution(space: SearchSpace, history: History, rng: np.random.Generator) -> Any:
    """Regularised evolution (Real et al., 2019): mutate the best of some of the latest."""
    if len(history.units) >= POPULATION:
        tried = set(space.keys(history.units))
        young = np.arange(len(history.units))[-POPULATION:]
        for _ in range(100):
            drawn = rng.choice(young, TOURNAMENT, replace=False)
            parent = history.units[drawn[history.objective[drawn].argmin()]]
            mutant = _mutate(space, parent, rng)
            if space.key(mutant) not in tried:
                return mutant
    return random_search(space, history, rng)


def _mutate(space: SearchSpace, parent: Floats, rng: np.random.Generator) -> Floats:
    """Change one active decision; one that becomes active gets a random value."""
    number = int(rng.choice(np.flatnonzero(~np.isnan(parent))))
    size, ordered = space.dimensions[number].size or 1, space.dimensions[number].ordered
    value = int(space.values(parent[None])[0, number])
    near = [each for each in (value - 1, value + 1) if 0 <= each < size]
    other_values = [each for each in range(size) if each != value]
    changed = np.where(np.isnan(parent), rng.random(len(parent)), parent)
    # Half of the changes of an ordered decision are to a neighbour: 32 units become 16 or 64.
    chosen = near if ordered and rng.random() < 0.5 else other_values
    changed[number] = (int(rng.choice(chosen)) + 0.5) / size
    return np.asarray(space.canonical(changed[None])[0])


SEARCHERS: dict[str, Propose] = {
    "random search": random_search,
    "regularised evolution": evolution,
    OURS: subspaces,
}


class Table:
    """A space with the validation loss of each of its points.

    Args:
        task: of `architecture_tables.TASKS`.
        trained: of the task: architecture to loss, error, parameters and seconds.
    """

    def __init__(self, task: str, trained: dict[str, list[float]]) -> None:
        build, _ = tables.TASKS[task]
        cube = UnitCube(tables.space_of(build))
        self.space = cube.space
        self.losses = {
            cube.space.key(cube.unit_of(values)): trained[tables.key_of(values)][0]
            for values in tables.architectures(build)
        }

    def search(self, ask: Propose, trials: int, seed: int) -> Any:
        """The losses of a search's trials, in their order: float [trials]."""
        rng = np.random.default_rng(seed)
        history = History.empty(len(self.space))
        for number in range(1, trials + 1):
            unit = ask(self.space, history, rng)
            ones = np.ones(number)
            history = replace(
                history,
                units=np.vstack([history.units, unit]),
                objective=np.append(history.objective, self.losses[self.space.key(unit)]),
                cost=ones,
                fidelity=ones,
                subspace=np.zeros(number, int),
            )
        return history.objective


def compare(task: str, table: Table, seeds: int) -> None:
    """Print how all searchers did on one task."""
    losses = np.array(list(table.losses.values()))
    good, lowest = np.quantile(losses, 0.01), losses.min()
    print(
        f"\n{task}: {len(losses)} architectures trained; validation loss {lowest:.4f} (lowest), "
        f"{good:.4f} (hundredth), {np.median(losses):.4f} (median). {seeds} seeds."
    )
    header = "".join(f"  regret@{budget:<4}" for budget in BUDGETS)
    print(f"{'':20}{header}  until 1%   worst@{BUDGETS[-1]}  ours / this")
    regrets, until = {}, {}
    for name, ask in SEARCHERS.items():
        runs = [table.search(ask, BUDGETS[-1], seed) for seed in range(seeds)]
        best = np.minimum.accumulate(runs, axis=1)
        regrets[name] = best[:, [budget - 1 for budget in BUDGETS]] - lowest
        found = best <= good
        until[name] = np.median(np.where(found.any(axis=1), found.argmax(axis=1) + 1, np.inf))
    ours = np.median(regrets[OURS], axis=0)
    for name, regret in regrets.items():
        medians = np.median(regret, axis=0)
        shown = "".join(f"  {value:11.4f}" for value in medians)
        ratios = " ".join(_ratio(a, b) for a, b in zip(ours, medians, strict=True))
        print(f"{name:20}{shown}  {until[name]:8.0f}  {regret[:, -1].max():9.4f}  {ratios}")
    for name in [each for each in regrets if each != OURS]:
        medians = np.median(regrets[name], axis=0)
        for budget, one, other in zip(BUDGETS, ours, medians, strict=True):
            what = f"{task}: regret of validation loss after {budget} trials"
            claim(what, float(one), peer=(name, float(other)))
        where = ", ".join(map(str, BUDGETS))
        what = f"{task}: the mean of the regrets after {where} trials"
        claim(what, float(ours.mean()), peer=(name, float(medians.mean())), at_most=1.0)


def _ratio(ours: float, other: float) -> str:
    return f"{ours / other:.2f}" if other > 0 else "1.00" if ours == 0 else "inf"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, default=Path("architecture_tables.json"))
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    print("Every architecture was trained once, for real; the searchers read the table.")
    for task, trained in tables.complete(arguments.table).items():
        compare(task, Table(task, trained), arguments.seeds)
