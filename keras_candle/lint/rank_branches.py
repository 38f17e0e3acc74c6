"""Find lines that only some ranks run, by the tests for a rank around them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from keras_candle.cluster.launchers import RANK_VARIABLES
from keras_candle.lint.names import Function, Module

_RANK_CALLS = ("rank", "local_rank", "cross_rank", "is_root", "Get_rank")
_SIZE_CALLS = ("size", "local_size", "Get_size")
_PACKAGES = ("horovod", "keras_candle", "mpi4py")
_RANK_VARIABLES = (*RANK_VARIABLES, "PMIX_RANK", "RANK", "LOCAL_RANK")
_LEAVES = (ast.Return, ast.Continue, ast.Break, ast.Raise)


class Ranks:
    """Find the nodes of a script that run on some ranks only.

    Args:
        modules: the script's.
    """

    def __init__(self, modules: list[Module]) -> None:
        self._modules = modules
        self._callers: dict[str, list[tuple[Module, ast.Call]]] = {}
        for module in modules:
            for call in module.calls:
                name = ast.unparse(call.func).split(".")[-1]
                self._callers.setdefault(name, []).append((module, call))

    def depends_on_rank(self, module: Module, node: ast.AST) -> bool:
        """Return whether an expression's value differs by rank."""
        return module.find(node, lambda each: _is_rank(module, each), depth=2) is not None

    def depends_on_size(self, module: Module, node: ast.AST) -> bool:
        """Return whether an expression's value changes with the number of ranks."""
        return module.find(node, lambda each: _is_size(module, each), depth=2) is not None

    def guard(self, module: Module, node: ast.AST, depth: int = 3) -> ast.AST | None:
        """Return the test for a rank that decides whether a node runs; None where all ranks run it.

        Args:
            module: the module of the node.
            node: any node.
            depth: number of calls to follow upwards, from a function to its callers.
        """
        child = node
        for parent in module.ancestors(node):
            test = self._test_before(module, parent, child)
            if test is not None:
                return test
            if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef):
                return self._guard_of_calls(parent, depth)
            child = parent
        return None

    def _test_before(self, module: Module, parent: ast.AST, child: ast.AST) -> ast.AST | None:
        before: list[ast.expr] = []
        if isinstance(parent, ast.If | ast.IfExp | ast.While) and child is not parent.test:
            before = [parent.test]
        elif isinstance(parent, ast.BoolOp):
            before = parent.values[: parent.values.index(child)]  # type: ignore[arg-type]
        if any(self.depends_on_rank(module, test) for test in before):
            return parent
        for block in _blocks(parent):
            if child in block:
                for statement in block[: block.index(child)]:
                    if self._leaves_by_rank(module, statement):
                        return statement
        return None

    def _leaves_by_rank(self, module: Module, statement: ast.stmt) -> bool:
        """Return whether a statement has the form `if rank != 0: return`."""
        if not isinstance(statement, ast.If) or statement.orelse:
            return False
        last = statement.body[-1]
        leaves = isinstance(last, _LEAVES) or (
            isinstance(last, ast.Expr)
            and isinstance(last.value, ast.Call)
            and module.dotted(last.value.func) in ("sys.exit", "exit", "quit", "os._exit")
        )
        return leaves and self.depends_on_rank(module, statement.test)

    def _guard_of_calls(self, function: Function, depth: int) -> ast.AST | None:
        """Return the test around a function's calls, if every call has one."""
        calls = self._callers.get(function.name, []) if depth else []
        guards = [self.guard(module, call, depth - 1) for module, call in calls]
        return guards[0] if guards and all(guards) else None


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            yield block


def _is_rank(module: Module, node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value in _RANK_VARIABLES
    return _is_call(module, node, _RANK_CALLS) or _is_attribute(module, node, "rank")


def _is_size(module: Module, node: ast.AST) -> bool:
    return _is_call(module, node, _SIZE_CALLS) or _is_attribute(module, node, "size")


def _is_call(module: Module, node: ast.AST, names: tuple[str, ...]) -> bool:
    if not isinstance(node, ast.Call) or node.args:
        return False
    package, _, name = module.dotted(node.func).rpartition(".")
    return name in names and _is_of_ranks(module, node.func, package)


def _is_attribute(module: Module, node: ast.AST, name: str) -> bool:
    """Return whether a node is comm.rank, engine.size or the like, of a package with ranks."""
    if not isinstance(node, ast.Attribute) or node.attr != name:
        return False
    if isinstance(module.parents.get(node), ast.Call):
        return False
    return _is_of_ranks(module, node, module.dotted(node.value))


def _is_of_ranks(module: Module, node: ast.AST, owner: str) -> bool:
    if owner.partition(".")[0] in _PACKAGES:
        return True
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
        return False
    return any(
        module.dotted(value).partition(".")[0] in _PACKAGES for value in module.bound(node.value)
    )
