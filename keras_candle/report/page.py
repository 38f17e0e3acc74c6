"""Render the HTML page from its templates."""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from keras_candle.report import formats, run_charts, run_tables, search_charts, trials
from keras_candle.report.axes import value_text
from keras_candle.report.reading import number
from keras_candle.report.run import ReportedRun
from keras_candle.report.trials import Search

# Characters that are invalid in HTML (control characters, halves of surrogate pairs), and those
# that change the direction of the text after them.
_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)


def page_of(runs: Sequence[ReportedRun], searches: Sequence[Search], written_s: float) -> str:
    """Return the text of the page; it is written at a time in seconds since the epoch."""
    template = _environment().get_template("page.html")
    page = template.render(runs=runs, searches=searches, written_s=written_s)
    return _UNFIT.sub("\ufffd", page)


@cache
def _environment() -> Environment:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.loader, environment.undefined = PackageLoader(__package__), StrictUndefined
    modules = (formats, run_charts, run_tables, search_charts, trials)
    environment.globals |= {each.__name__.rpartition(".")[2]: each for each in modules}
    functions = (_file, _hash, number, repr, value_text)
    environment.globals |= {each.__name__.lstrip("_"): each for each in functions}
    return environment


def _file(name: str) -> Markup:
    # The package's own text: the page's policy names its hash.
    return Markup((resources.files(__package__) / "templates" / name).read_text("utf-8"))  # noqa: S704


def _hash(name: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(_file(name).encode()).digest()).decode()}"
