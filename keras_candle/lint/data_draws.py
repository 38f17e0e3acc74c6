"""Findings about data that are drawn, ordered or divided at random."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

from keras_candle.lint.batch_values import calls_in, last_name, values_in
from keras_candle.lint.candle_usage import candle_options
from keras_candle.lint.draws import (
    Draw,
    Seeds,
    draw_of,
    is_dataset,
    is_unseeded_generator,
    shown,
)
from keras_candle.lint.finding import ERROR, INFO, WARNING, Finding, FindingKind
from keras_candle.lint.names import Function, Module, argument, constant
from keras_candle.lint.objects import Class
from keras_candle.lint.script import EVALUATION, TRAINING, Flow, Script, data_of

DATA = FindingKind(
    "unseeded-data",
    ERROR,
    "{call} draws without a seed, and what it draws goes into {method} on line {there}",
    "{effect}",
    "{remedy}",
)
BATCHES = FindingKind(
    "unseeded-batches",
    ERROR,
    "{call} in {name}.__getitem__ draws what goes into {method} on line {there}",
    "{effect}",
    "self.rng = np.random.default_rng(0) in {name}.__init__, and draw from it: keras_candle keeps "
    "the ranks' draws from it apart",
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
MODEL = FindingKind(
    "unseeded-model",
    ERROR,
    "{call} draws without a seed, and {builder}(...) on line {there} builds a model from it",
    "each rank builds another model, and keras_candle refuses to train them together",
    "{remedy}",
)
KINDS = (DATA, BATCHES, ELSEWHERE, BY_RANK, MODEL)

_REFUSED = (
    "each rank draws its own: the ranks hold different data, and keras_candle refuses to shard them"
)
_ORDER = "each rank draws an order of its own, and keras_candle refuses the dataset"
_NO_ORDER = (
    "a global seed is not enough for it: the ranks read different orders, so that some rows are "
    "seen twice and others never"
)
_LOST = (
    "each rank draws its own: the ranks divide datasets that differ, so that some rows are seen "
    "twice and others never"
)
_OWN_SPLIT = "each rank splits its own way: rows that one rank holds out, another trains on"
_OWN_ROWS = "each rank draws other rows for the same batch, and keras_candle refuses to shard them"
_SAME_ROWS = (
    "without a seed each rank draws other rows for the same batch, which keras_candle refuses; "
    "with one, all ranks draw the same rows"
)
# Methods whose batches may differ on the ranks: then each rank's are its own.
_OF_BATCHES = ("train_on_batch", "test_on_batch")
# Methods of a dataset whose functions may draw: rows stay where they are.
_MAPS = ("map", "interleave", "flat_map")


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    seeds = Seeds(script)
    for module, call, name in seeds.calls:
        if any(script.ranks.depends_on_rank(module, each) for each in call.args):
            yield BY_RANK.at(module.path, call.lineno, call=name)
    yield from _models(script, seeds)
    reached: set[ast.AST] = set()
    # With shard=False, each rank may have its own data.
    if candle_options(script).has("shard", False):
        return
    yield from _reaching(script, seeds, reached)
    kinds = ("pydataset", "layer", "model")
    kept = {node for kind in kinds for _, each in script.classes(kind) for node in ast.walk(each)}
    for module, call, _ in script.calls():
        draw = draw_of(script, module, call)
        reported = draw is None or not draw.splits or call in reached or call in kept
        if draw and not reported and not seeds.reach(draw, module, call):
            yield ELSEWHERE.at(module.path, call.lineno, call=shown(call), remedy=draw.remedy)


def _models(script: Script, seeds: Seeds) -> Iterator[Finding]:
    """Yield the findings for draws that a decorated function gets."""
    flow = _Values(script)
    builders = [function for _, function in candle_options(script).decorated]
    for module, call, _ in script.calls():
        if not any(each in builders for _, each in script.objects.functions(module, call.func)):
            continue
        given = [each.value for each in call.keywords if "seed" not in (each.arg or "")]
        words = {"builder": ast.unparse(call.func), "there": call.lineno}
        for expression in (*call.args, *given):
            for owner, source in flow.sources(module, expression):
                draw = draw_of(script, owner, source)
                if draw and not seeds.reach(draw, owner, source):
                    about = {"call": shown(source), "remedy": draw.remedy}
                    yield MODEL.at(owner.path, source.lineno, **words, **about)


def _reaching(script: Script, seeds: Seeds, reached: set[ast.AST]) -> Iterator[Finding]:
    """Yield the findings for draws that reach a training or an evaluation."""
    flow = _DataFlow(script)
    for module, call, _ in script.method_calls(*TRAINING, *EVALUATION):
        words = {"method": call.func.attr, "there": call.lineno}  # type: ignore[attr-defined]
        for expression in data_of(call):
            of_dataset = is_dataset(script, module, expression)
            for owner, source in flow.sources(module, expression):
                for class_module, kind in _pydatasets(script, owner, source):
                    batches = _Batches(script, class_module, kind, seeds)
                    yield from batches.findings(source, reached, words)
                draw = draw_of(script, owner, source)
                if draw and source not in reached and not seeds.reach(draw, owner, source):
                    reached.add(source)
                    effect = _effect(draw, of_dataset)
                    if words["method"] in _OF_BATCHES:
                        effect = _OWN_SPLIT
                        if not owner.dotted(source.func).startswith("sklearn.model_selection."):
                            continue
                    yield DATA.at(
                        *(owner.path, source.lineno),
                        **{**words, "call": shown(source), "remedy": draw.remedy, "effect": effect},
                    )


def _effect(draw: Draw, of_dataset: bool) -> str:
    if draw.of_dataset:
        return _NO_ORDER if draw.generator == "own" else _ORDER
    return _LOST if of_dataset else _REFUSED


class _Values(Flow):
    """Follow values, and not data of which only the shape is used."""

    def _parts(self, node: ast.AST) -> Iterator[ast.AST]:
        return values_in(node)


class _DataFlow(Flow):
    """Follow data; in a generator of inputs and targets the targets, which the ranks compare.

    Args:
        script: the script.
    """

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self._filled: dict[tuple[Function | None, str], list[ast.expr]] = {}
        for module in script.modules:
            for node in module.nodes:
                name, value = _filling(node)
                if value is not None:
                    self._filled.setdefault((module.function(node), name), []).append(value)

    def _parts(self, node: ast.AST) -> Iterator[ast.AST]:
        waiting = [node]
        for each in waiting:  # grows as it goes
            yield each
            is_map = isinstance(each, ast.Call) and getattr(each.func, "attr", "") in _MAPS
            waiting += [each.func] if is_map else ast.iter_child_nodes(each)  # type: ignore[attr-defined]

    def _before(self, module: Module, node: ast.AST) -> Iterator[tuple[Module, ast.AST]]:
        for owner, value in super()._before(module, node):
            yield from ((owner, each) for each in _compared(owner, value))
        if isinstance(node, ast.Name):
            for each in module.definitions(node):
                if each.iterates and each.value is not None:
                    yield from self._next(module, each.value)
            filled = self._filled.get((module.function(node), node.id), [])
            yield from ((module, value) for value in filled)
        if isinstance(node, ast.Call) and module.dotted(node.func).endswith("from_generator"):
            for given in node.args[:1]:
                for owner, function in self._objects.functions(module, given):
                    for value in self._objects.returned(function):
                        yield from ((owner, each) for each in _compared(owner, value))

    def _next(self, module: Module, iterated: ast.expr) -> Iterator[tuple[Module, ast.AST]]:
        """Yield what an object of the script's gives in a loop."""
        for origin in self._objects.origins(module, iterated):
            known = self._objects.class_of(origin)
            for owner, base in self._objects.bases(*known) if known else ():
                for method in base.body:
                    if isinstance(method, ast.FunctionDef) and method.name in (
                        "__next__",
                        "__iter__",
                    ):
                        for value in self._objects.returned(method):
                            yield from ((owner, each) for each in _compared(owner, value))


def _compared(module: Module, value: ast.AST) -> list[ast.AST]:
    """Return what the ranks compare of a value: of a generator's rows the targets, if any."""
    is_row = isinstance(module.parents.get(value), ast.Yield)
    if is_row and isinstance(value, ast.Tuple) and len(value.elts) > 1:
        return [value.elts[1]]
    return [value]


def _filling(node: ast.AST) -> tuple[str, ast.expr | None]:
    """Return the name and the value of `name.append(value)` and `name[index] = value`."""
    if isinstance(node, ast.Call) and last_name(node.func) in ("append", "extend") and node.args:
        filled = getattr(node.func, "value", None)
        return (filled.id, node.args[0]) if isinstance(filled, ast.Name) else ("", None)
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        filled = node.targets[0].value
        return (filled.id, node.value) if isinstance(filled, ast.Name) else ("", None)
    return "", None


def _pydatasets(script: Script, module: Module, call: ast.Call) -> list[Class]:
    own = {owner for _, owner in script.classes("pydataset")}
    return [each for each in script.objects.classes(module, call.func) if each[1] in own]


class _Batches:
    """The draws of a PyDataset class of the script.

    Args:
        script: the script.
        module: the module of the class.
        owner: the class.
        seeds: the script's.
    """

    def __init__(self, script: Script, module: Module, owner: ast.ClassDef, seeds: Seeds) -> None:
        self._script, self._owner, self._seeds = script, owner, seeds
        self._methods = {
            node.name: (owner_module, node)
            for owner_module, each in reversed(script.objects.bases(module, owner))
            for node in each.body
            if isinstance(node, ast.FunctionDef)
        }

    def findings(
        self, instance: ast.Call, reached: set[ast.AST], words: dict[str, object]
    ) -> Iterator[Finding]:
        """Yield the findings for one instance."""
        for module, call, draw in self._drawn_at_start(instance):
            if call not in reached and not self._seeds.reach(draw, module, call):
                reached.add(call)
                about = {"call": shown(call), "remedy": draw.remedy, "effect": _REFUSED}
                yield DATA.at(module.path, call.lineno, **words, **about)
        for module, call, effect in self._drawn_in_batches():
            if call not in reached:
                reached.add(call)
                about = {"call": shown(call), "name": self._owner.name, "effect": effect}
                yield BATCHES.at(module.path, call.lineno, **words, **about)

    def _drawn_at_start(self, instance: ast.Call) -> Iterator[tuple[Module, ast.Call, Draw]]:
        """Yield the draws of orders, and of what the targets are made from, in `__init__`."""
        for module, method in self._run_at("__init__"):
            for call in calls_in(method):
                draw = draw_of(self._script, module, call)
                if draw is None or is_unseeded_generator(module, call):
                    continue
                if self._is_off(module, call, instance):
                    continue
                if draw.splits or self._is_of_targets(module, call):
                    yield module, call, draw

    def _is_of_targets(self, module: Module, call: ast.Call) -> bool:
        """Return whether an attribute of which a draw is the value goes into the targets."""
        statement = next(each for each in module.ancestors(call) if isinstance(each, ast.stmt))
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        drawn = {ast.unparse(each) for each in targets}
        return any(
            owner.find(
                each, lambda node: isinstance(node, ast.Attribute) and ast.unparse(node) in drawn
            )
            for owner, each in self._targets()
        )

    def _run_at(self, name: str) -> Iterator[tuple[Module, Function]]:
        """Yield a method, and the methods of the same object that it calls."""
        names = [name]
        for each in names:  # grows as it goes
            if each not in self._methods:
                continue
            module, method = self._methods[each]
            yield module, method
            for call in calls_in(method):
                called = ast.unparse(call.func)
                if called.startswith("self.") and called[5:] not in names:
                    names.append(called[5:])

    def _is_off(self, module: Module, call: ast.Call, instance: ast.Call) -> bool:
        """Return whether a test of the constructor's argument, as `if self.shuffle`, is false."""
        tests = [each.test for each in module.ancestors(call) if isinstance(each, ast.If)]
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for test in tests
            for node in ast.walk(test)
            if isinstance(node, ast.Attribute | ast.Name)
        }
        return any(self._given(instance, name) is False for name in names)

    def _given(self, instance: ast.Call, name: str) -> object:
        if "__init__" not in self._methods:
            return None
        arguments = self._methods["__init__"][1].args
        places = [each.arg for each in (*arguments.posonlyargs, *arguments.args)][1:]
        place = places.index(name) if name in places else None
        given = argument(instance, name, place)
        if given is not None or place is None:
            return constant(given)
        default = dict(zip(reversed(places), reversed(arguments.defaults), strict=False))
        return constant(default.get(name))

    def _targets(self) -> Iterator[tuple[Module, ast.expr]]:
        """Yield the targets that `__getitem__` returns; all of a batch that has none."""
        if "__getitem__" in self._methods:
            module, method = self._methods["__getitem__"]
            for returned in self._script.objects.returned(method):
                several = isinstance(returned, ast.Tuple) and len(returned.elts) > 1
                yield module, returned.elts[1] if several else returned  # type: ignore[attr-defined]

    def _drawn_in_batches(self) -> Iterator[tuple[Module, ast.Call, str]]:
        """Yield the draws of a batch's targets from a generator that is not the object's."""
        for module, targets in self._targets():
            found = module.find(targets, functools.partial(_draws_rows, module))
            if isinstance(found, ast.Call):
                yield module, found, _draws_rows(module, found)


def _draws_rows(module: Module, node: ast.AST) -> str:
    """Return the effect of a draw in `__getitem__` that keras_candle does not see, else ""."""
    if is_unseeded_generator(module, node):
        return _OWN_ROWS
    name = module.dotted(node.func) if isinstance(node, ast.Call) else ""
    is_seeded = isinstance(node, ast.Call) and argument(node, "seed") is not None
    framework = name.startswith(("tensorflow.random.", "keras.random.")) and "()" not in name
    return _SAME_ROWS if framework and not is_seeded and "eed" not in name else ""
