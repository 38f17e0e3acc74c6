"""HTML and SVG as text in which nothing of the user's can be taken for markup."""

from __future__ import annotations

import re
import unicodedata

# What no page may hold (control characters, halves of surrogate pairs), and what would turn the
# direction of the text behind it.
_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
_VOID = {"meta", "link", "input", "br"}


class Markup(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def clean(text: object) -> str:
    """A value's text without the characters that no page may hold.

    Example:
        >>> clean(f"a{chr(0)}b") == f"a{chr(0xFFFD)}b"
        True
    """
    return _UNFIT.sub("\ufffd", str(text))


def escaped(text: object) -> Markup:
    """A value's text as it may stand between tags and in quotes; markup stays as it is.

    Example:
        >>> escaped("</script>")
        '&lt;/script&gt;'
    """
    return text if isinstance(text, Markup) else Markup(clean(text).translate(_ENTITIES))


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """An element of HTML or SVG.

    Args:
        tag: its name.
        *children: markup, or values whose text is escaped; None is left out.
        **attributes: `class_` stands for class, an underscore for a hyphen, True for an attribute
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
    """Pieces of markup, one after the other; other values' text is escaped, None left out."""
    return Markup("".join(escaped(each) for each in parts if each is not None))


def shortened(text: object, most: int) -> str:
    """A value's text in one line of at most so many characters.

    Example:
        >>> shortened("batch_normalisation", 10)
        'batch_nor…'
    """
    line = " ".join(clean(text).split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def width_of(text: str, size: float = 12.0) -> float:
    """About how wide a line is in a sans-serif font of a size, in the same unit.

    It is rather too large than too small: room is made by it.
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
    """Numbers as short as a picture needs them."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
