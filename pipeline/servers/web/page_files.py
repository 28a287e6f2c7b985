"""The files of the preview page and its login page: the same for every visitor, since scripts fetch what is shown."""

from __future__ import annotations

from fusepipe.core.html_pages import environment, style_sheet, unescaped
from fusepipe.core.view_settings import PALETTES
from fusepipe.pipeline.servers.web.rendering import NOTES, VIEWS

PACKAGE = "fusepipe.pipeline.servers.web"
_OWN = {
    "page.css": "text/css",
    "login.css": "text/css",
    "page.js": "text/javascript",
    "page.whep.js": "text/javascript",
    "page.align.js": "text/javascript",
}


def page_files() -> dict[str, tuple[str, str]]:
    """(content, media type) of each file by its name; the page itself has the empty name."""
    files = {
        "": (
            environment(PACKAGE).get_template("page.html").render(views=VIEWS, palettes=PALETTES, notes=NOTES),
            "text/html",
        ),
        "style.css": (str(style_sheet()), "text/css"),
    }
    return files | {name: (str(unescaped(PACKAGE, name)), kind) for name, kind in _OWN.items()}


def login_page(problem: str = "", name: str = "") -> str:
    """The login page, on request with why the last attempt failed and the name that was given."""
    return environment(PACKAGE).get_template("login.html").render(title="Log in", problem=problem, name=name)
