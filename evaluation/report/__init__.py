"""Reports of results: JSON, CSV, terminal tables, and HTML pages.

``html`` renders the templates in ``templates/`` with the skeleton of all pages; the other modules give data.
Imported by ``workflows``, ``commands`` and ``train``.
"""
