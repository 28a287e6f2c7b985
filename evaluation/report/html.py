"""HTML pages from jinja2 templates: one skeleton and one style sheet for every report.

A page is one file that needs nothing else; its content security policy forbids every network access. Values are
escaped by the templates (``autoescape``), so that names of files, methods and commands cannot become markup.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

PACKAGE = "fusepipe.evaluation.report"


def render(template: str, package: str = PACKAGE, **values: Any) -> str:
    """A template of a package's folder ``templates`` with values; it may extend and import those of this package.

    ``style`` is the style sheet of all reports.
    """
    return _environment(package).get_template(template).render(style=packaged("report.css"), **values)


def fragment(template: str, **values: Any) -> Any:
    """A template of this package as markup, for a value of another template that must not escape it again."""
    from markupsafe import Markup

    return Markup(_environment(PACKAGE).get_template(template).render(**values))


def packaged(name: str) -> Any:
    """A file of this package as markup that is not escaped: the style sheet or the script."""
    from markupsafe import Markup

    return Markup(files(PACKAGE).joinpath(name).read_text("utf-8"))


@cache
def _environment(package: str) -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, PACKAGE))])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
