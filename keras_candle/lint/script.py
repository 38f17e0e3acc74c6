"""A script with the modules that it imports from its folder, its Keras models and data flow."""

from __future__ import annotations

import ast
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from keras_candle.lint.names import Function, Module, parse
from keras_candle.lint.objects import Objects, Origin
from keras_candle.lint.rank_branches import Ranks
from keras_candle.lint.scopes import position

_MOST_MODULES = 60
# Kind of class -> the base classes that make a class one, or the package of all of them.
BASES = {
    "model": ("keras.Model", "keras.Sequential", "keras.Functional"),
    "layer": ("keras.layers.",),
    "callback": ("keras.callbacks.",),
    "loss": ("keras.losses.",),
    "metric": ("keras.metrics.",),
    "optimizer": ("keras.optimizers.",),
    "pydataset": (
        "keras.utils.PyDataset",
        "keras.utils.Sequence",
        "keras.utils.data_utils.Sequence",
    ),
}
_MODELS = (
    *BASES["model"],
    "keras.applications.",
    "keras.models.",
    "keras.saving.load_model",
)
# Packages of models for Keras, and words in their names of what is no model.
_HUBS = ("keras_hub.", "keras_nlp.", "keras_cv.")
_NO_MODELS = ("Tokenizer", "Preprocessor", "Converter", "Packer")
_NOT_COMPILED = ("re.compile", "jax.", "numba.", "torch.")
TRAINING = ("fit", "fit_generator", "train_on_batch")
EVALUATION = ("evaluate", "evaluate_generator", "test_on_batch")
_DATA = ("x", "y", "generator", "sample_weight", "validation_data")
_FURTHEST = 4000


class Script:
    """The modules of a script, with its models, callbacks and builders.

    Args:
        modules: the script's own file first.
        auto: whether the script will run with `candle run --auto`.
    """

    def __init__(self, modules: list[Module], *, auto: bool = False) -> None:
        self.modules, self.auto = modules, auto
        self.main = modules[0]
        self.ranks = Ranks(modules)
        self.objects = Objects(modules)
        self._classes = {kind: self._subclasses(kind) for kind in BASES}
        self._models: dict[ast.AST, bool] = {}
        self._compiled = [
            self.objects.origins(module, call.func.value)  # type: ignore[attr-defined]
            for module, call, name in self.calls()
            if _compiles(call, name)
        ]

    def calls(self) -> Iterator[tuple[Module, ast.Call, str]]:
        """Yield every call with its module and the full name of its function."""
        for module in self.modules:
            for call in module.calls:
                yield module, call, module.dotted(call.func)

    def functions(self) -> Iterator[tuple[Module, Function]]:
        """Yield every function and method with its module."""
        for module in self.modules:
            for function in module.functions:
                yield module, function

    def classes(self, kind: str) -> Iterator[tuple[Module, ast.ClassDef]]:
        """Yield the script's own classes of a kind in `BASES`, also those that derive from them."""
        for module in self.modules:
            yield from ((module, node) for node in module.classes if node in self._classes[kind])

    def method_calls(self, *names: str) -> Iterator[tuple[Module, ast.Call, ast.expr]]:
        """Yield the calls of these methods on models, with the model's expression."""
        for module in self.modules:
            for call in module.calls:
                function = call.func
                named = isinstance(function, ast.Attribute) and function.attr in names
                if named and self.is_model(module, function.value):  # type: ignore[attr-defined]
                    yield module, call, function.value  # type: ignore[attr-defined]

    def line(self, path: str, number: int) -> str:
        """Return a line's text, without indentation and a final colon."""
        lines = next((each.lines for each in self.modules if each.path == path), [])
        return lines[number - 1].strip().rstrip(":") if 0 < number <= len(lines) else "the line"

    def is_model(self, module: Module, node: ast.expr) -> bool:
        """Return whether an expression may be a Keras model, judged from the source."""
        if node not in self._models:
            origins = self.objects.origins(module, node)
            self._models[node] = any(map(self._is_model, origins)) or any(
                self.objects.are_same(origins, compiled) for compiled in self._compiled
            )
        return self._models[node]

    def returns_model(self, module: Module, function: Function) -> bool:
        """Return whether a function returns a model."""
        returned = self.objects.returned(function)
        return any(self.is_model(module, value) for value in returned)

    def may_precede(self, one: Module, first: ast.AST, two: Module, second: ast.AST) -> bool:
        """Return whether a node may run before another one, judged by lines and calls."""
        if one is not two:
            return True
        if one.function(first) is one.function(second):
            return position(first) < position(second)
        earliest, latest = self._times(one, first), self._times(one, second)
        return not earliest or not latest or min(earliest) < max(latest)

    def _times(self, module: Module, node: ast.AST, depth: int = 4) -> list[tuple[int, int]]:
        """Return where the module's own lines run a node: its place, or those of the calls."""
        function = module.function(node)
        if function is None:
            return [position(node)]
        calls = self.objects.calls_of(function) if depth else []
        return [
            time
            for owner, call in calls
            if owner is module and function not in module.ancestors(call)
            for time in self._times(module, call, depth - 1)
        ]

    def _is_model(self, origin: Origin) -> bool:
        return any(self._makes_model(each) for each in self.objects.parts(origin))

    def _makes_model(self, origin: Origin) -> bool:
        if origin.path == (".model",):
            known = self.objects.class_of(dataclasses.replace(origin, path=()))
            return known is not None and known[1] in self._classes["callback"]
        known = self.objects.class_of(origin)
        if known is not None:
            return known[1] in self._classes["model"]
        call = origin.node
        if origin.path or not isinstance(call, ast.Call):
            return False
        name = origin.module.dotted(call.func)
        return _is_hub_model(name) or (_is_one(name, _MODELS) and _is_made(name))

    def _subclasses(self, kind: str) -> set[ast.ClassDef]:
        found = {
            node
            for module in self.modules
            for node in module.classes
            if any(_is_base(module.dotted(base), kind) for base in node.bases)
        }
        for module in self.modules:
            for node in module.classes:
                above = self.objects.bases(module, node)
                if any(each in found for _, each in above):
                    found.add(node)
        return found


def _is_base(name: str, kind: str) -> bool:
    return _is_one(name, BASES[kind]) or (kind == "model" and _is_hub_model(name))


def _is_hub_model(name: str) -> bool:
    is_one = name.startswith(_HUBS) and ".models." in name
    return is_one and not any(word in name for word in _NO_MODELS) and "()" not in name


def _is_made(name: str) -> bool:
    """Return whether a call of that name makes a model, unlike preprocess_input or a method."""
    last = name.rpartition(".")[2]
    makes = last[:1].isupper() or last in ("load_model", "clone_model") or last.endswith("_json")
    return makes and "()" not in name


def _compiles(call: ast.Call, name: str) -> bool:
    """Return whether a call is `compile` of a model, judged by its arguments."""
    function = call.func
    if not isinstance(function, ast.Attribute) or function.attr != "compile":
        return False
    if _is_one(name, _NOT_COMPILED):
        return False
    given = " ".join(keyword.arg or "" for keyword in call.keywords)
    return bool(call.args) or any(word in given for word in ("optimizer", "loss", "metrics"))


def _is_one(name: str, names: tuple[str, ...]) -> bool:
    return any(name == each or (each.endswith(".") and name.startswith(each)) for each in names)


def load(path: str, *, auto: bool = False) -> Script:
    """Read a script, and the modules that it imports from its own folder.

    Args:
        path: the script's.
        auto: whether it will run with `candle run --auto`.

    Raises:
        SyntaxError: the script, or such a module, is not valid Python.
        OSError: it cannot be read.
    """
    main = Path(os.path.realpath(path))
    modules = [parse(main, shown(main))]
    seen = {main}
    for module in modules:  # grows as it goes
        for name in sorted(module.imported_modules()):
            for file in _files(main.parent, name):
                if file not in seen and len(modules) < _MOST_MODULES:
                    seen.add(file)
                    modules.append(parse(file, shown(file)))
    return Script(modules, auto=auto)


def shown(path: str | Path) -> str:
    """Return a path for display: relative to the working directory if below it, else absolute."""
    real = os.path.realpath(path)
    relative = os.path.relpath(real)
    return real if relative.startswith(os.pardir) else relative


def _files(folder: Path, name: str) -> Iterator[Path]:
    """Yield the files that importing a name reads: the packages' and the module's own."""
    place = folder
    for part in name.split("."):
        place = place / part
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file


class Flow:
    """Follow expressions of a script to the calls that make their values.

    Args:
        script: the script.
    """

    def __init__(self, script: Script) -> None:
        self._objects = script.objects
        # x of random.shuffle(x), where nothing is assigned
        self._changed: dict[tuple[str, str], list[ast.Call]] = {}
        for module, call, dotted in script.calls():
            if dotted in ("random.shuffle", "numpy.random.shuffle") and call.args:
                key = (module.path, ast.unparse(call.args[0]))
                self._changed.setdefault(key, []).append(call)

    def sources(self, module: Module, expression: ast.AST) -> Iterator[tuple[Module, ast.Call]]:
        """Yield the calls that an expression's value may come from."""
        for owner, node in self.nodes(module, expression):
            if isinstance(node, ast.Call):
                yield owner, node

    def nodes(self, module: Module, expression: ast.AST) -> Iterator[tuple[Module, ast.AST]]:
        """Yield the expressions, with their parts, that an expression's value may come from."""
        waiting = [(module, expression)]
        seen = {id(expression)}
        for module_, node in waiting:  # grows as it goes
            for each in self._parts(node):
                yield module_, each
                for further in self._before(module_, each):
                    if id(further[1]) not in seen and len(seen) < _FURTHEST:
                        seen.add(id(further[1]))
                        waiting.append(further)

    def _parts(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the parts of an expression that its value may depend on."""
        return ast.walk(node)

    def _before(self, module: Module, node: ast.AST) -> Iterator[tuple[Module, ast.AST]]:
        if isinstance(node, ast.Call):
            for owner, function in self._objects.functions(module, node.func):
                yield from ((owner, value) for value in self._objects.returned(function))
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            for call in self._changed.get((module.path, ast.unparse(node)), []):
                yield module, call
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            for each in module.definitions(node):
                if each.value is not None:
                    yield module, each.value
                elif isinstance(each.node, ast.arg):
                    yield from self._objects.arguments(module, each.node)


def data_of(call: ast.Call) -> list[ast.expr]:
    """Return the data arguments of a call of fit or train_on_batch."""
    by_name = [word.value for word in call.keywords if word.arg in _DATA]
    return [*call.args[:2], *by_name]
