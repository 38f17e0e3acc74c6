"""Build HTML and SVG as text; the text of values is escaped."""

from __future__ import annotations

import re
import unicodedata

# Characters that are invalid in HTML (control characters, halves of surrogate pairs), and those
# that change the direction of the text after them.
_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
_VOID = {"meta", "link", "input", "br"}


class Markup(str):
    """Text that is already markup and is not escaped again."""

    __slots__ = ()


def clean(text: object) -> str:
    """Return a value's text without characters that are invalid or unsafe in HTML.

    Example:
        >>> clean(f"a{chr(0)}b") == f"a{chr(0xFFFD)}b"
        True
    """
    return _UNFIT.sub("\ufffd", str(text))


def escaped(text: object) -> Markup:
    """Escape a value's text for use between tags and in quotes; markup is unchanged.

    Example:
        >>> escaped("</script>")
        '&lt;/script&gt;'
    """
    return text if isinstance(text, Markup) else Markup(clean(text).translate(_ENTITIES))


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element of HTML or SVG.

    Args:
        tag: its name.
        *children: markup, or values whose text is escaped; None is left out.
        **attributes: `class_` is class, an underscore becomes a hyphen, and True is an attribute
            without a value. None is left out.

    Example:
        >>> element("b", "1 < 2", data_key='"', class_="wide")
        '<b data-key="&quot;" class="wide">1 &lt; 2</b>'
    """
    parts = [f"<{tag}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        parts.append(
            f" {attribute}" if value is True else f' {attribute}="{escaped(_text(value))}"'
        )
    parts.append(">")
    if tag in _VOID:
        return Markup("".join(parts))
    parts += [escaped(child) for child in children if child is not None]
    parts.append(f"</{tag}>")
    return Markup("".join(parts))


def joined(*parts: object) -> Markup:
    """Concatenate markup; the text of plain values is escaped, None is left out."""
    return Markup("".join(escaped(each) for each in parts if each is not None))


def shortened(text: object, most: int) -> str:
    """Return a value's text in one line of at most `most` characters.

    Example:
        >>> shortened("batch_normalisation", 10)
        'batch_nor…'
    """
    line = " ".join(clean(text).split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def width_of(text: str, size: float = 12.0) -> float:
    """Estimate the width of a line in a sans-serif font of a size, in the same unit.

    The estimate is rather too large than too small.
    """
    return size * sum(map(_width, text))


def _width(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character in "mwMW@%—":
        return 0.95
    if character.isupper() or character in "_#&+=<>~":
        return 0.72
    return 0.34 if character in "iljtfrI.,:;'|!()[] " else 0.6


def _text(value: object) -> object:
    """Numbers with at most two decimals, which is enough for SVG."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
