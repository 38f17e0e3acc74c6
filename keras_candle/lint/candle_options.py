"""Find a script's uses of `@candle.scalable` and `candle.scale`, with their arguments."""

from __future__ import annotations

import ast
import dataclasses

from keras_candle.lint.names import Function, Module, argument
from keras_candle.lint.script import Script

DECORATORS = ("keras_candle.scalable", "keras_candle.decorator.scalable")
SCALES = ("keras_candle.scale", "keras_candle.decorator.scale")


@dataclasses.dataclass(frozen=True)
class CandleOptions:
    """The script's `@candle.scalable` and `candle.scale(...)`.

    Attributes:
        decorated: the decorated functions.
        scaled: the calls of `scale`.
        calls: the decorator's calls, where it has arguments, and those of `scale`.
    """

    decorated: tuple[tuple[Module, Function], ...]
    scaled: tuple[tuple[Module, ast.Call], ...]
    calls: tuple[ast.Call, ...]

    @property
    def is_used(self) -> bool:
        """Whether the script uses keras_candle at all."""
        return bool(self.decorated or self.scaled or self.calls)

    def has(self, name: str, value: object) -> bool:
        """Return whether any call gives the argument that literal value."""
        given = [argument(call, name) for call in self.calls]
        return any(isinstance(each, ast.Constant) and each.value == value for each in given)

    def gives(self, name: str) -> ast.expr | None:
        """Return the argument of that name from the first call that has it, else None."""
        return next(filter(None, (argument(call, name) for call in self.calls)), None)


def candle_options(script: Script) -> CandleOptions:
    """Find the uses of keras_candle in a script.

    Args:
        script: the script.
    """
    decorated = [
        (module, function)
        for module, function in script.functions()
        if any(_decorator(module, each) for each in function.decorator_list)
    ]
    named = list(script.calls())
    scaled = [(module, call) for module, call, name in named if name in SCALES]
    calls = [call for _, call, name in named if name in (*SCALES, *DECORATORS)]
    return CandleOptions(tuple(decorated), tuple(scaled), tuple(calls))


def _decorator(module: Module, node: ast.expr) -> bool:
    return module.dotted(node).removesuffix("()") in DECORATORS
