"""What is wrong with a script, where, why, and the change to make."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

ERROR = "error"
"""Wrong result, refusal or hang on several ranks."""
WARNING = "warning"
"""Slow, or not what one expects."""
NOTE = "note"
"""Good to know."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to look at.

    Attributes:
        path: the file.
        line: the line in it, 0 for the file as a whole.
        code: the name of its kind.
        severity: ERROR, WARNING or NOTE.
        what: one line.
        reason: what it does on several ranks.
        remedy: the change to make.
    """

    path: str
    line: int
    code: str
    severity: str
    what: str
    reason: str
    remedy: str

    def text(self) -> str:
        """The finding as it is printed, three lines."""
        head = f"{self.path}:{self.line}: {self.severity}: {self.what} [{self.code}]"
        return f"{head}\n    why: {self.reason}\n    do:  {self.remedy}"


@dataclasses.dataclass(frozen=True)
class FindingKind:
    """A row of the table of findings; the three texts may name words in braces.

    Attributes:
        code: its name.
        severity: ERROR, WARNING or NOTE.
        what: one line.
        reason: what it does on several ranks.
        remedy: the change to make, as a line of code where one will do.
    """

    code: str
    severity: str
    what: str
    reason: str
    remedy: str

    def at(self, path: str, line: int, **words: object) -> Finding:
        """A finding of this kind.

        Example:
            >>> kind = FindingKind("late", NOTE, "{who} is late", "{who} waits", "start {who}")
            >>> kind.at("train.py", 3, who="x").what
            'x is late'
        """
        texts = (text.format(**words) for text in (self.what, self.reason, self.remedy))
        return Finding(path, line, self.code, self.severity, *texts)


def in_order(findings: Iterable[Finding], main: str) -> list[Finding]:
    """By line, the script's own first; of what was found twice on a line the first.

    Args:
        findings: in any order.
        main: the script's path.
    """
    unique: dict[tuple[str, int, str], Finding] = {}
    for each in findings:
        unique.setdefault((each.path, each.line, each.code), each)
    return sorted(unique.values(), key=lambda f: (f.path != main, f.path, f.line, f.code))
