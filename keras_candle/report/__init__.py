"""Report runs and searches as one self-contained HTML page: `candle report`."""

import base64
import contextlib
import hashlib
import os
import re
import time
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from keras_candle.errors import CandleError
from keras_candle.report import formats, run_charts, run_tables, search_charts, trials
from keras_candle.report.axes import value_text
from keras_candle.report.formats import counted
from keras_candle.report.reading import number
from keras_candle.report.run import ReportedRun, is_run, read_run
from keras_candle.report.trials import Search, is_search, read_search
from keras_candle.run_directory import replace_file

_EXPECTED = (
    "Expected the run directory that CandleCallback was given (it holds journal.jsonl and "
    "config.json), or a search's folder (CandleTuner's directory/project_name, with search.json)."
)

# Characters that are invalid in HTML (control characters, halves of surrogate pairs), and those
# that change the direction of the text after them.
_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)


def write_report(
    paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None
) -> tuple[Path, str]:
    """Write an HTML report of runs and searches.

    The page is self-contained: it needs no network and no further file. A run or a search that is
    still running, or whose files are damaged, is shown as far as it can be read; the page lists
    what is missing.

    Args:
        paths: run directories (as given to `CandleCallback`) and folders of searches.
        out: the file, replaced atomically; report.html in the first of the paths by default.

    Returns:
        The file's path, and a one-line summary of its content.

    Raises:
        CandleError: when one of the paths is neither a run nor a search, none is given, or the
            file cannot be written.
    """
    if not paths:
        raise CandleError(f"A report needs a directory. {_EXPECTED}")
    folders = list(dict.fromkeys(Path(each).absolute().resolve() for each in paths))
    runs: list[ReportedRun] = []
    searches: list[Search] = []
    for path, name in zip(folders, names_of(folders), strict=True):
        if is_run(path):
            runs.append(read_run(path, name, len(runs)))
        elif is_search(path):
            searches.append(read_search(path, name, len(searches)))
        else:
            raise CandleError(_refusal(path))
    target = Path(out) if out is not None else folders[0] / "report.html"
    template = _environment().get_template("page.html")
    page = template.render(runs=runs, searches=searches, written_s=time.time())
    try:
        replace_file(target, _UNFIT.sub("\ufffd", page).encode())
    except OSError as cause:
        raise CandleError(
            f"The report {target} cannot be written ({cause}). Name another file with -o."
        ) from cause
    return target, _summary(runs, searches)


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return the shortest suffixes of paths that are all different."""
    for parts in range(1, max(len(each.parts) for each in paths) + 1):
        names = ["/".join(each.parts[-parts:]) for each in paths]
        if len(set(names)) == len(names):
            break
    return names


def _refusal(path: Path) -> str:
    if not path.is_dir():
        return f"{path} is {'no directory' if path.exists() else 'not there'}. {_EXPECTED}"
    inside: list[str] = []
    with contextlib.suppress(OSError):
        inside = sorted(each.name for each in path.iterdir() if is_run(each) or is_search(each))
    more = f", and {len(inside) - 5} more" if len(inside) > 5 else ""
    hint = f" It contains: {', '.join(inside[:5])}{more}." if inside else ""
    return f"{path} is neither a run nor a search. {_EXPECTED}{hint}"


def _summary(runs: Sequence[ReportedRun], searches: Sequence[Search]) -> str:
    epochs = counted(sum(len(each.epochs) for each in runs), "epoch")
    restarts = counted(sum(max(len(each.attempts) - 1, 0) for each in runs), "restart")
    summary = [f"{counted(len(runs), 'run')} with {epochs} and {restarts}"] if runs else []
    for each in searches:
        best = f"best {each.describe(each.best)}" if each.best else "no result yet"
        summary.append(f"a search of {counted(len(each.trials), 'trial')}, {best}")
    return "; ".join(summary)


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
