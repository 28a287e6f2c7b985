"""Fusion metrics: one module a family, ``table`` lists them all with variant and direction."""
