"""Where frames come from. ``base.py`` is the contract; a source is one module and one registry line."""
