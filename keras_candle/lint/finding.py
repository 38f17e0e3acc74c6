"""A finding about a script: place, severity, description, reason and remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

ERROR = "error"
"""The severity of a wrong result, a refusal or a hang on several ranks."""
WARNING = "warning"
"""The severity of a script that is slow, or does not do what users expect."""
INFO = "note"
"""The severity of information, printed as "note"."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fault, or a piece of information, on a line of a script.

    Attributes:
        path: the file.
        line: the line in it, 0 for the file as a whole.
        code: the name of its kind.
        severity: ERROR, WARNING or INFO.
        what: the fault, in one line.
        reason: its effect on several ranks.
        remedy: the change to make.
        more: further lines of the file with the same fault.
        change: the remedy without the line's own call, equal for findings of one change.
    """

    path: str
    line: int
    code: str
    severity: str
    what: str
    reason: str
    remedy: str
    more: tuple[int, ...] = ()
    change: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return the finding as JSON has it, with all its lines."""
        kept = {name: value for name, value in vars(self).items() if name not in ("more", "change")}
        return {**kept, "lines": [self.line, *self.more]}

    def text(self) -> str:
        """Format the finding in three lines, with a fourth for further lines of the file."""
        head = f"{self.path}:{self.line}: {self.severity}: {self.what} [{self.code}]"
        if self.more:
            head += (
                f"\n    also on line{'s' * (len(self.more) > 1)} {', '.join(map(str, self.more))}"
            )
        return f"{head}\n    why: {self.reason}\n    do:  {self.remedy}"


@dataclasses.dataclass(frozen=True)
class FindingKind:
    """A kind of finding, with format strings for its three texts.

    Attributes:
        code: its name.
        severity: ERROR, WARNING or INFO.
        what: the fault, in one line.
        reason: its effect on several ranks.
        remedy: the change to make, if possible as a line of code.
        by_auto: whether `candle run --auto` makes the change itself.
    """

    code: str
    severity: str
    what: str
    reason: str
    remedy: str
    by_auto: bool = False

    def at(self, path: str, line: int, **words: object) -> Finding:
        """Make a finding of this kind.

        Example:
            >>> kind = FindingKind("late", INFO, "{who} is late", "{who} waits", "start {who}")
            >>> kind.at("train.py", 3, who="x").what
            'x is late'
        """
        what, reason, remedy = (
            text.format(**words) for text in (self.what, self.reason, self.remedy)
        )
        change = self.remedy.format(**{**words, "call": "{call}"})
        return Finding(path, line, self.code, self.severity, what, reason, remedy, change=change)


def in_order(findings: Iterable[Finding], main: str) -> list[Finding]:
    """Sort findings by line, the script's own file first, and drop duplicates of a line.

    Args:
        findings: in any order.
        main: the script's path.
    """
    unique: dict[tuple[str, int, str], Finding] = {}
    for each in findings:
        unique.setdefault((each.path, each.line, each.code), each)
    return sorted(unique.values(), key=lambda f: (f.path != main, f.path, f.line, f.code))


def grouped(findings: Iterable[Finding]) -> list[Finding]:
    """Make one finding of those of a file that have one kind and one change to make.

    Args:
        findings: in order.

    Returns:
        The first of each group, with the lines of all.
    """
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for each in findings:
        groups.setdefault((each.path, each.code, each.change), []).append(each)
    return [_merged(group) for group in groups.values()]


def _merged(group: list[Finding]) -> Finding:
    first = group[0]
    lines = {line for each in group for line in (each.line, *each.more)} - {first.line}
    return dataclasses.replace(first, more=tuple(sorted(lines)))
