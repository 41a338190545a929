"""From a page's facts to one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import importlib.util
from importlib.resources import files

from qcompiler.errors import UnsupportedError
from qcompiler.report.html.figures import figures
from qcompiler.report.html.page import Page
from qcompiler.report.html.view import View, all_words
from qcompiler.report.json import plain

LIBRARIES = ("jinja2", "plotly")


def require_libraries() -> None:
    """Refuse early where what makes a page is not installed.

    Raises:
        UnsupportedError: names it, and the remedy.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise UnsupportedError(
            f"a report needs {' and '.join(missing)}, not installed here: pip install 'qcompiler[report]'."
        )


def render(page: Page) -> str:
    """The page as HTML; whatever is in names of nodes, nothing of it is markup or script.

    Scripts run only if their SHA-256 is in the page's Content-Security-Policy, which also forbids every request.

    Raises:
        UnsupportedError: Jinja2 or Plotly is not installed.
    """
    require_libraries()
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(all_words())
    environment.globals["breakable"] = _breakable
    drawn, script = figures(page), _template("page.js")
    packed, plotly_hash = _packed_plotly()
    return environment.get_template("page.html.j2").render(
        page=page,
        view=View(page),
        figures=drawn,
        data={"figures": drawn, "spreads": plain(page.spreads)},
        style=Markup(_template("page.css")),
        script=Markup(script),
        plotly=Markup(packed),
        script_hashes=Markup(f"{_source_hash(script)} {plotly_hash}"),
    )


def _breakable(name: str) -> str:
    """A name that may be broken behind its slashes; escaped."""
    from markupsafe import Markup, escape

    return Markup("/<wbr>").join(map(escape, name.split("/")))


def _template(name: str) -> str:
    return (files("qcompiler.report.html") / "template" / name).read_text(encoding="utf-8")


@functools.cache
def _packed_plotly() -> tuple[str, str]:
    """Plotly's JavaScript, gzip in base64 (4.8 MB become 2), and its hash."""
    from plotly.offline import get_plotlyjs

    source = get_plotlyjs()
    packed = gzip.compress(source.encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii"), _source_hash(source)


def _source_hash(script: str) -> str:
    """As a Content-Security-Policy names a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"
