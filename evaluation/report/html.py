"""HTML reports: the skeleton and style sheet of all pages, with the templates and styles of reports.

A report is one file that needs nothing else; its content security policy forbids every network access.
"""

from __future__ import annotations

from typing import Any

from fusepipe.core.html_pages import environment, style_sheet, unescaped

PACKAGE = "fusepipe.evaluation.report"


def render(template: str, package: str = PACKAGE, **values: Any) -> str:
    """A template of a package's folder ``templates`` with values; it may extend and import those of this package.

    ``style`` is the style sheet of all reports.
    """
    style = style_sheet() + packaged("report.css")
    return environment(package, PACKAGE).get_template(template).render(style=style, **values)


def fragment(template: str, **values: Any) -> Any:
    """A template of this package as markup, for a value of another template that must not escape it again."""
    from markupsafe import Markup

    return Markup(environment(PACKAGE).get_template(template).render(**values))


def packaged(name: str) -> Any:
    """A file of this package as markup that is not escaped: the style sheet or the script."""
    return unescaped(PACKAGE, name)
