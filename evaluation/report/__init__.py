"""Reports of results: tables, plots, images, and HTML pages from one skeleton and style sheet."""
