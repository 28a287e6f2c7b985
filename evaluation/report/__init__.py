"""Reports of results: JSON, CSV, terminal tables, and HTML pages from one skeleton and one style sheet.

``html`` renders the templates in ``templates/``; the other modules give data. Imported by ``workflows``,
``commands`` and ``train``.
"""
