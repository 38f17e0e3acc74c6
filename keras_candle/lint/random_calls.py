"""Findings about random draws that differ on each rank."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator

from keras_candle.lint.candle_options import candle_options
from keras_candle.lint.data_flow import Flow, data_of
from keras_candle.lint.finding import ERROR, INFO, WARNING, Finding, FindingKind
from keras_candle.lint.names import Function, Module, argument, constant
from keras_candle.lint.script import TRAINING, Script

DATA = FindingKind(
    "unseeded-data",
    ERROR,
    "{call} draws without a seed, and what it draws goes into {method} on line {there}",
    "each rank draws its own: the ranks hold different data, and keras_candle refuses to shard "
    "them",
    "{remedy}",
)
ELSEWHERE = FindingKind(
    "unseeded-split",
    INFO,
    "{call} draws without a seed",
    "each rank draws its own; no path of the draw into a training was found",
    "{remedy}",
)
BY_RANK = FindingKind(
    "seed-differs-by-rank",
    WARNING,
    "{call} sets a seed that differs by rank",
    "then random data differ by rank too; keras_candle gives each rank its own dropout masks "
    "without that",
    "keras.utils.set_random_seed(0) with one number on all ranks",
)
KINDS = (DATA, ELSEWHERE, BY_RANK)

_SEED_ALL = "keras.utils.set_random_seed(0) before it"
# call -> the generators that it seeds
_SEEDS = {
    "keras.utils.set_random_seed": ("python", "numpy", "tensorflow"),
    "keras.utils.rng_utils.set_random_seed": ("python", "numpy", "tensorflow"),
    "numpy.random.seed": ("numpy",),
    "random.seed": ("python",),
    "tensorflow.random.set_seed": ("tensorflow",),
    "tensorflow.compat.v1.set_random_seed": ("tensorflow",),
    "tensorflow.set_random_seed": ("tensorflow",),
}
_NO_DRAWS = ("seed", "get_state", "set_state", "default_rng", "RandomState", "Generator")
_GENERATORS = ("numpy.random.default_rng", "numpy.random.RandomState", "random.Random")
_PYTHON = ("shuffle", "sample", "random", "randint", "choice", "choices", "uniform", "gauss")
_TENSORFLOW = ("uniform", "normal", "shuffle")
_ALWAYS_SHUFFLE = (
    "ShuffleSplit",
    "StratifiedShuffleSplit",
    "GroupShuffleSplit",
    "train_test_split",
)
_FOLDERS = ("image_dataset_from_directory", "text_dataset_from_directory")
_KERAS_FOLDERS = ("keras.utils", "keras.preprocessing")


@dataclasses.dataclass(frozen=True)
class Draw:
    """A call that draws, the generator that it draws from, and how to seed it."""

    generator: str
    remedy: str
    splits: bool = False


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    seeds = [(module, call, name) for module, call, name in script.calls() if name in _SEEDS]
    for module, call, name in seeds:
        if any(script.ranks.depends_on_rank(module, each) for each in call.args):
            yield BY_RANK.at(module.path, call.lineno, call=name)
    reached: set[int] = set()
    flow = Flow(script)
    # With shard=False, each rank may have its own data.
    divided = not candle_options(script).has("shard", False)
    for module, call, _ in script.method_calls(*TRAINING) if divided else ():
        method = call.func.attr  # type: ignore[attr-defined]
        for expression in data_of(call):
            for owner, source in flow.sources(module, expression):
                draw = _draw(owner, source)
                if draw and id(source) not in reached and not _seeded(draw, owner, source, seeds):
                    reached.add(id(source))
                    words = {"method": method, "there": call.lineno, "remedy": draw.remedy}
                    yield DATA.at(owner.path, source.lineno, call=_shown(source), **words)
    for module, call, _ in script.calls():
        draw = _draw(module, call)
        reported = draw is None or not draw.splits or id(call) in reached
        if draw and not reported and not _seeded(draw, module, call, seeds):
            shown = _shown(call)
            yield ELSEWHERE.at(module.path, call.lineno, call=shown, remedy=draw.remedy)


def _shown(call: ast.Call) -> str:
    text = ast.unparse(call.func)
    return f".{text.split('.')[-1]}()" if "(" in text else f"{text}()"


def _draw(module: Module, call: ast.Call) -> Draw | None:
    name = module.dotted(call.func)
    if name in _GENERATORS:
        return None if call.args or call.keywords else Draw("own", f"{name}(0)")
    if name.startswith("sklearn."):
        return _draw_of_sklearn(call, *name.rsplit(".", 1))
    return _draw_of_package(module, call, name) or _draw_of_method(module, call)


def _draw_of_package(module: Module, call: ast.Call, name: str) -> Draw | None:
    package, _, last = name.rpartition(".")
    if package == "numpy.random" and last not in _NO_DRAWS and last[:1].islower():
        return Draw("numpy", _SEED_ALL, last in ("shuffle", "permutation"))
    if package == "random" and last in _PYTHON and module.imports(package):
        return Draw("python", _SEED_ALL, last == "shuffle")
    if argument(call, "seed") is not None or constant(argument(call, "shuffle")) is False:
        return None
    of_keras = package == "keras.random" and last != "SeedGenerator"
    if of_keras or (package == "tensorflow.random" and last in _TENSORFLOW):
        return Draw("python" if of_keras else "tensorflow", _SEED_ALL)
    if last in _FOLDERS and package.startswith(_KERAS_FOLDERS):
        return Draw("numpy", f"{last}(..., seed=0)")
    return None


def _draw_of_sklearn(call: ast.Call, package: str, last: str) -> Draw | None:
    draws = (
        last in _ALWAYS_SHUFFLE
        or (last.endswith("KFold") and constant(argument(call, "shuffle")) is True)
        or (package == "sklearn.utils" and last in ("shuffle", "resample"))
        or (package == "sklearn.datasets" and last.startswith("make_"))
    )
    state = argument(call, "random_state")
    seeded = state is not None and not _is_none(state)
    if not draws or seeded or constant(argument(call, "shuffle")) is False:
        return None
    return Draw("numpy", f"{last}(..., random_state=0)", splits=not last.startswith("make_"))


def _draw_of_method(module: Module, call: ast.Call) -> Draw | None:
    function = call.func
    if not isinstance(function, ast.Attribute):
        return None
    if function.attr == "sample" and argument(call, "frac") is not None:  # pandas
        given = argument(call, "random_state")
        return Draw("numpy", ".sample(..., random_state=0)") if given is None else None
    if function.attr == "shuffle" and _is_dataset(module, function.value):
        given = argument(call, "seed", 1)
        if given is None or _is_none(given):
            return Draw("tensorflow", f"{_SEED_ALL}, or .shuffle(..., seed=0)", splits=True)
    return None


def _is_dataset(module: Module, node: ast.expr) -> bool:
    return (
        module.find(
            node,
            lambda each: (
                isinstance(each, ast.Attribute)
                and module.dotted(each).startswith(("tensorflow.data.", "tensorflow_datasets."))
            ),
        )
        is not None
    )


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _seeded(
    draw: Draw, module: Module, call: ast.Call, seeds: list[tuple[Module, ast.Call, str]]
) -> bool:
    """Return whether a seed is set before the draw, judged by the order of lines."""
    function: Function | None = module.function(call)
    for owner, seed, name in seeds:
        if draw.generator not in _SEEDS[name]:
            continue
        if owner is not module or function is not None or seed.lineno < call.lineno:
            return True
    return False
