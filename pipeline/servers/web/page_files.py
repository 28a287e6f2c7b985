"""The files of the preview page: the same for every visitor, since its scripts fetch what they show."""

from __future__ import annotations

from fusepipe.core.html_pages import environment, style_sheet, unescaped
from fusepipe.pipeline.servers.web.rendering import VIEWS

PACKAGE = "fusepipe.pipeline.servers.web"


def page_files() -> dict[str, tuple[str, str]]:
    """(content, media type) of each file by its name; the page itself has the empty name."""
    files = {
        "": (environment(PACKAGE).get_template("page.html").render(views=VIEWS), "text/html"),
        "style.css": (str(style_sheet()), "text/css"),
    }
    own = {"page.css": "text/css", "page.js": "text/javascript", "page.whep.js": "text/javascript"}
    return files | {name: (str(unescaped(PACKAGE, name)), kind) for name, kind in own.items()}
