"""Findings about random draws, clocks and hash orders that differ on each rank."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator

from keras_candle.lint.candle_usage import candle_options
from keras_candle.lint.finding import ERROR, INFO, WARNING, Finding, FindingKind
from keras_candle.lint.names import Function, Module, argument, constant
from keras_candle.lint.script import TRAINING, Flow, Script, data_of

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
LOOP_BY_CLOCK = FindingKind(
    "loop-ends-by-clock",
    ERROR,
    "a clock decides when the loop with {method} on line {there} ends",
    "the ranks' clocks differ: one leaves the loop and the rest wait for it in {method}",
    "stop = bool(candle.engine.current().allreduce({test}, 'max')), and test that",
)
CALLBACK_BY_CLOCK = FindingKind(
    "batch-stop-by-clock",
    WARNING,
    "{name}.{hook} stops the training by a clock",
    "the ranks' clocks differ, so they want to stop at different batches",
    "do it in on_epoch_end, where keras_candle stops all ranks when one requests it",
)
SETS = FindingKind(
    "layers-in-hash-order",
    INFO,
    "layers are made in the order of a set",
    "it differs between processes unless PYTHONHASHSEED is set: candle run sets it, other "
    "launchers do not",
    "for {target} in sorted({iterable}):",
)
KINDS = (DATA, ELSEWHERE, BY_RANK, LOOP_BY_CLOCK, CALLBACK_BY_CLOCK, SETS)

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
_CLOCKS = (
    *("time.time", "time.monotonic", "time.perf_counter", "time.process_time"),
    *("timeit.default_timer", "datetime.datetime.now", "datetime.datetime.utcnow"),
)
_AGREEING = ("keras_candle", "horovod", "mpi4py")
_BATCH_HOOKS = ("on_batch_end", "on_train_batch_end", "on_batch_begin", "on_train_batch_begin")


@dataclasses.dataclass(frozen=True)
class Draw:
    """A call that draws, the generator that it draws from, and how to seed it."""

    generator: str
    remedy: str
    splits: bool = False


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    yield from _draws(script)
    for module, call, _ in script.method_calls(*TRAINING):
        yield from _loops_by_clock(module, call)
    for module, owner in script.classes("callback"):
        yield from _callbacks_by_clock(module, owner)
    yield from _sets(script)


def _draws(script: Script) -> Iterator[Finding]:
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


def _loops_by_clock(module: Module, call: ast.Call) -> Iterator[Finding]:
    for loop in _loops_around(module, call):
        tests = [loop.test] if isinstance(loop, ast.While) else []
        tests += [
            node.test
            for node in ast.walk(loop)
            if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Break | ast.Return)
        ]
        for test in tests:
            if _is_by_clock(module, test):
                method = call.func.attr  # type: ignore[attr-defined]
                words = {"method": method, "there": call.lineno, "test": ast.unparse(test)}
                yield LOOP_BY_CLOCK.at(module.path, test.lineno, **words)


def _loops_around(module: Module, node: ast.AST) -> Iterator[ast.For | ast.While]:
    for each in module.ancestors(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(each, ast.For | ast.While):
            yield each


def _is_by_clock(module: Module, test: ast.expr) -> bool:
    def names(node: ast.AST) -> str:
        return module.dotted(node.func) if isinstance(node, ast.Call) else ""

    agreed = module.find(test, lambda each: names(each).partition(".")[0] in _AGREEING)
    return agreed is None and module.find(test, lambda each: names(each) in _CLOCKS) is not None


def _callbacks_by_clock(module: Module, owner: ast.ClassDef) -> Iterator[Finding]:
    for hook in owner.body:
        if not isinstance(hook, ast.FunctionDef) or hook.name not in _BATCH_HOOKS:
            continue
        for node in ast.walk(hook):
            stops = isinstance(node, ast.If) and "stop_training" in ast.unparse(node)
            if stops and _is_by_clock(module, node.test):  # type: ignore[attr-defined]
                words = {"name": owner.name, "hook": hook.name}
                yield CALLBACK_BY_CLOCK.at(module.path, node.lineno, **words)  # type: ignore[attr-defined]


def _sets(script: Script) -> Iterator[Finding]:
    for module in script.modules:
        for node in module.nodes:
            if not isinstance(node, ast.For) or not _is_set(module, node.iter):
                continue
            calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
            if any(module.dotted(each.func).startswith("keras.layers.") for each in calls):
                words = {"target": ast.unparse(node.target), "iterable": ast.unparse(node.iter)}
                yield SETS.at(module.path, node.lineno, **words)


def _is_set(module: Module, node: ast.expr) -> bool:
    values = module.bound(node) if isinstance(node, ast.Name) else [node]
    return any(
        isinstance(value, ast.Set | ast.SetComp)
        or (isinstance(value, ast.Call) and module.dotted(value.func) in ("set", "frozenset"))
        for value in values
    )
