"""Parse one module of a script and resolve its names."""

from __future__ import annotations

import ast
import tokenize
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_candle.lint.scopes import Binding, Function, Scope, Scopes

__all__ = ["Binding", "Function", "Module", "Scope", "argument", "constant", "parse"]

# Aliases of the same modules and classes, in the order in which they are applied.
_ALIASES = (
    ("tensorflow.compat.v2.", "tensorflow."),
    ("tensorflow.compat.v1.keras.", "keras."),
    ("tensorflow.python.keras.", "keras."),
    ("tensorflow.keras.", "keras."),
    ("tensorflow.initializers.", "keras.initializers."),
    ("tensorflow.losses.", "keras.losses."),
    ("tensorflow.metrics.", "keras.metrics."),
    ("tensorflow.optimizers.", "keras.optimizers."),
    ("keras.api.", "keras."),
    ("keras.src.", "keras."),
    ("keras.optimizers.experimental.", "keras.optimizers."),
    ("keras.optimizers.legacy.", "keras.optimizers."),
    ("keras.layers.experimental.preprocessing.", "keras.layers."),
    ("keras.models.Model.", "keras.Model."),
    ("keras.models.Sequential.", "keras.Sequential."),
    ("keras.engine.training.Model.", "keras.Model."),
    ("keras.models.model.Model.", "keras.Model."),
    ("keras.engine.base_layer.Layer.", "keras.layers.Layer."),
    ("keras.engine.topology.Layer.", "keras.layers.Layer."),
    ("keras.layers.layer.Layer.", "keras.layers.Layer."),
    ("keras.Layer.", "keras.layers.Layer."),
    ("keras.Loss.", "keras.losses.Loss."),
    ("keras.Metric.", "keras.metrics.Metric."),
    ("keras.Optimizer.", "keras.optimizers.Optimizer."),
    ("keras.layers.Input.", "keras.Input."),
)
# Python makes one such node for all places.
_SHARED = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)


class Module:
    """A parsed file.

    Args:
        path: as it is shown to the user.
        source: its text.

    Raises:
        SyntaxError: the source is not valid Python.
    """

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.lines = source.splitlines()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the script's own code
            self.tree = ast.parse(source, path)
        self.nodes = [node for node in ast.walk(self.tree) if not isinstance(node, _SHARED)]
        self.parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        self.calls = [node for node in self.nodes if isinstance(node, ast.Call)]
        self.classes = [node for node in self.nodes if isinstance(node, ast.ClassDef)]
        self.functions = [
            node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        self._scopes = Scopes(self.tree, self.parents)
        self._imported = dict(self._imports())
        self._roots = {name.partition(".")[0] for name in self._imported.values()}
        self._names: dict[ast.AST, str] = {}

    def imports(self, package: str) -> bool:
        """Return whether a package, or a member of it, is imported."""
        return package in self._roots

    def _imports(self) -> Iterator[tuple[str, str]]:
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.name if alias.asname else alias.name.partition(".")[0]
                    yield alias.asname or name, name
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    yield alias.asname or alias.name, f"{node.module}.{alias.name}"

    def is_imported(self, node: ast.AST) -> bool:
        """Return whether a name, or the root of an attribute, is imported."""
        while isinstance(node, ast.Attribute):
            node = node.value
        if not isinstance(node, ast.Name):
            return False
        definitions = self.definitions(node)
        return any(each.imported for each in definitions) or (
            not definitions and node.id in self._imported
        )

    def is_named(self, name: str) -> bool:
        """Return whether this is the file that importing a name reads, judged by its path."""
        path = "/" + self.path.replace("\\", "/").removesuffix(".py").removesuffix("/__init__")
        return bool(name) and path.endswith("/" + name.replace(".", "/"))

    def top_level(self, name: str) -> list[Function | ast.ClassDef]:
        """Return the functions and classes of that name that the module defines."""
        definitions = [*self.functions, *self.classes]
        return [each for each in definitions if each.name == name and self.scope(each) is self.tree]

    def variable(self, name: str) -> list[Binding]:
        """Return all bindings of a variable of the module itself."""
        return self._scopes.of_module(name)

    def imported_modules(self) -> set[str]:
        """Return the full names of all imports."""
        return set(self._imported.values())

    def import_lines(self) -> Iterator[tuple[int, str]]:
        """Yield the line and the module's full name of each import."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.lineno, node.module

    def scope(self, node: ast.AST) -> Scope:
        """Return the function, class, comprehension or module that evaluates a node."""
        return self._scopes.of(node)

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the nodes that contain a node, the innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def function(self, node: ast.AST) -> Function | None:
        """Return the innermost function that contains a node, else None."""
        for each in self.ancestors(node):
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                return each
        return None

    def definitions(self, name: ast.Name) -> list[Binding]:
        """Return the assignments, imports, definitions and parameters that a name may mean."""
        return self._scopes.bindings(name)

    def bound(self, name: ast.Name) -> list[ast.expr]:
        """Return the expressions from which a name may have its value where it is read."""
        return [each.value for each in self.definitions(name) if each.value is not None]

    def dotted(self, node: ast.AST) -> str:
        r"""Return the full name of an expression, with "()" for each call in it.

        Example:
            >>> module = Module("m.py", "import tensorflow.keras as K\nK.layers.Dense(1).build")
            >>> module.dotted(module.tree.body[1].value)
            'keras.layers.Dense().build'
        """
        if node in self._names:
            return self._names[node]
        name = self._dotted(node, depth=4)
        for prefix, proper in _ALIASES:
            if (name + ".").startswith(prefix):
                name = proper + name[len(prefix) :] if name + "." != prefix else proper[:-1]
        self._names[node] = name
        return name

    def _dotted(self, node: ast.AST, depth: int) -> str:
        if isinstance(node, ast.Attribute):
            base = self._dotted(node.value, depth)
            return f"{base}.{node.attr}" if base else ""
        if isinstance(node, ast.Call):
            return f"{self._dotted(node.func, depth)}()"
        if not isinstance(node, ast.Name):
            return ""
        definitions = self.definitions(node)
        imported = [each.imported for each in definitions if each.imported]
        if imported or not definitions:
            return imported[-1] if imported else self._imported.get(node.id, node.id)
        value = definitions[0].value
        # layers = keras.layers
        if len(definitions) == 1 and isinstance(value, ast.Attribute | ast.Name) and depth:
            root = self._dotted(value, depth - 1)
            if root.partition(".")[0] in self._roots:
                return root
        is_package = node.id in self._roots and definitions[0].value is not None
        return f"<{node.id}>" if is_package else node.id

    def find(
        self, node: ast.AST, test: Callable[[ast.AST], object], depth: int = 3
    ) -> ast.AST | None:
        """Find a node that passes a test, in an expression or in the values of its names."""
        for each in ast.walk(node):
            if test(each):
                return each
            if depth and isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load):
                for value in self.bound(each):
                    found = self.find(value, test, depth - 1)
                    if found is not None:
                        return found
        return None


def argument(call: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    """Return a call's argument by name or by position, else None."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position is None or any(isinstance(each, ast.Starred) for each in call.args[: position + 1]):
        return None
    return call.args[position] if len(call.args) > position else None


def constant(node: ast.AST | None) -> object:
    """Return a literal's value, None for a node that is no literal."""
    return node.value if isinstance(node, ast.Constant) else None


def parse(path: Path, shown: str) -> Module:
    """Read and parse a file.

    Raises:
        SyntaxError: it is not valid Python.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    with tokenize.open(path) as file:  # in the encoding that the file declares
        return Module(shown, file.read())
