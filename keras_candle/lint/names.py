"""Parse one module of a script and resolve its names."""

from __future__ import annotations

import ast
import dataclasses
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = ast.Module | Function | ast.Lambda | ast.ClassDef
_SCOPES = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
# Aliases of the same modules.
_ALIASES = (
    ("tensorflow.compat.v2.", "tensorflow."),
    ("tensorflow.python.keras.", "keras."),
    ("tensorflow.keras.", "keras."),
    ("tensorflow.optimizers.", "keras.optimizers."),
    ("tensorflow.losses.", "keras.losses."),
    ("keras.api.", "keras."),
    ("keras.optimizers.legacy.", "keras.optimizers."),
    ("keras.layers.experimental.preprocessing.", "keras.layers."),
)


@dataclasses.dataclass(frozen=True)
class _Binding:
    """A name's assignment; `always` when it is not inside a test or loop."""

    value: ast.expr
    statement: ast.AST
    always: bool

    @property
    def line(self) -> int:
        return int(getattr(self.statement, "lineno", 0))


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
        self.tree = ast.parse(source, path)
        self.nodes = list(ast.walk(self.tree))
        self.parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        self.calls = [node for node in self.nodes if isinstance(node, ast.Call)]
        self.classes = [node for node in self.nodes if isinstance(node, ast.ClassDef)]
        self.functions = [
            node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        self._imported = dict(self._imports())
        self._roots = {name.partition(".")[0] for name in self._imported.values()}
        self._names: dict[ast.AST, str] = {}
        self._bound: dict[tuple[Scope, str], list[_Binding]] = {}
        for target, value in self._assignments():
            for name in ast.walk(target):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    scope, statement = self.scope(name), self._statement(name)
                    always = self.parents.get(statement) is scope
                    binding = _Binding(value, statement, always)
                    self._bound.setdefault((scope, name.id), []).append(binding)

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

    def _assignments(self) -> Iterator[tuple[ast.expr, ast.expr]]:
        for node in self.nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    yield from _pairs(target, node.value)
            elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value:
                yield node.target, node.value
            elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
                yield node.target, node.iter
            elif isinstance(node, ast.withitem) and node.optional_vars:
                yield node.optional_vars, node.context_expr

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
        """Return the function, class or module that contains a node."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, _SCOPES):
                return node
        return self.tree

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

    def bound(self, name: ast.Name) -> list[ast.expr]:
        """Return the values that a simple name may have where it is read.

        These are, in the innermost scope that assigns it, the last unconditional assignment and all
        conditional ones since.
        """
        scope = here = self.scope(name)
        while (scope, name.id) not in self._bound:
            if isinstance(scope, ast.Module):
                return []
            scope = self.scope(scope)
        bindings = self._bound[scope, name.id]
        if scope is here:
            own = self._statement(name)
            earlier = [b for b in bindings if b.statement is not own and b.line < name.lineno]
            last = max((b.line for b in earlier if b.always), default=0)
            bindings = [b for b in earlier if b.line >= last] or bindings
        return [binding.value for binding in bindings]

    def _statement(self, node: ast.AST) -> ast.AST:
        """Return the innermost statement that contains a node."""
        while not isinstance(node, ast.stmt) and node in self.parents:
            node = self.parents[node]
        return node

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
        values = self.bound(node)
        # layers = keras.layers
        if len(values) == 1 and isinstance(values[0], ast.Attribute | ast.Name) and depth:
            root = self._dotted(values[0], depth - 1)
            if root.partition(".")[0] in self._roots:
                return root
        return node.id if values else self._imported.get(node.id, node.id)

    def find(
        self, node: ast.AST, test: Callable[[ast.AST], bool], depth: int = 3
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


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield target and value of an assignment, one by one where both are lists: a, b = 1, 2."""
    both = (target, value)
    if all(isinstance(side, ast.Tuple | ast.List) for side in both):
        left, right = (side.elts for side in both)  # type: ignore[attr-defined]
        if len(left) == len(right) and not any(isinstance(e, ast.Starred) for e in left):
            for pair in zip(left, right, strict=True):
                yield from _pairs(*pair)
            return
    yield target, value


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
