"""The HTML page: its sections, style and script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from keras_candle.report.markup import Markup, element, joined
from keras_candle.report.quantities import moment
from keras_candle.report.run import ReportedRun
from keras_candle.report.runs_section import section_of_runs
from keras_candle.report.search_section import section_of_search
from keras_candle.report.trials import Search


def page_of(runs: Sequence[ReportedRun], searches: Sequence[Search], written_s: float) -> str:
    """Return the text of the page.

    Args:
        runs: shown together, in their order.
        searches: shown in their order, after the runs.
        written_s: the time of writing, in seconds since the epoch.
    """
    sections = [("runs", "Runs", section_of_runs(runs))] if runs else []
    sections += [
        (f"search-{each.number}", f"Search {each.name}", section_of_search(each))
        for each in searches
    ]
    shown: list[ReportedRun | Search] = [*runs, *searches]
    title = ", ".join(each.name for each in shown[:3]) + (", …" if len(shown) > 3 else "")
    links = [element("a", text, href=f"#{key}") for key, text, _ in sections]
    footer = f"Written {moment(written_s)} from the files at that time."
    body = element(
        "body",
        element("header", element("h1", "candle report"), element("p", footer, class_="soft")),
        element("nav", *links) if len(links) > 1 else None,
        element("main", *[content for *_, content in sections]),
        element("footer", *[element("div", each.path) for each in shown]),
        element("script", Markup(_file("page.js"))),
    )
    return f"<!doctype html>\n{element('html', _head(title), body, lang='en')}\n"


def _head(title: str) -> Markup:
    # Whatever the page contains, the browser runs only this script and loads nothing.
    policy = (
        f"default-src 'none'; style-src '{_hash('page.css')}'; script-src '{_hash('page.js')}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("link", rel="icon", href="data:,"),
        element("title", joined(title, " · candle report")),
        element("style", Markup(_file("page.css"))),
    )


@cache
def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def _hash(name: str) -> str:
    digest = hashlib.sha256(_file(name).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
