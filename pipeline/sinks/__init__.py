"""Where fused frames go. ``base.py`` is the contract; a sink is one module and one registry line."""
