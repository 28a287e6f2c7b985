"""Results as tables, plots, pictures and one HTML page."""
