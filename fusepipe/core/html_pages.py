"""HTML from jinja2 templates: one skeleton and one style sheet for all reports and pages of fusepipe.

Both are in the folder ``html`` beside this module; a package has its own templates in its folder ``templates``. Values
are escaped (``autoescape``), so that names of files, rigs and commands cannot become markup.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_CORE = "fusepipe.core"


@cache
def environment(*packages: str) -> Environment:
    """The templates of these packages, the first one's before the next one's, and ``skeleton.html``.

    A value that a template uses and does not get is an error (``StrictUndefined``).
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loaders = [*(PackageLoader(package) for package in dict.fromkeys(packages)), PackageLoader(_CORE, "html")]
    loader = ChoiceLoader(loaders)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def unescaped(package: str, name: str) -> Markup:
    """A file of a package as markup that a template does not escape: a style sheet or a script."""
    from markupsafe import Markup

    return Markup(files(package).joinpath(name).read_text("utf-8"))


def style_sheet() -> Markup:
    """The style sheet of all pages: colours (light and dark) and the elements that several of them have."""
    return unescaped(_CORE, "html/style.css")
