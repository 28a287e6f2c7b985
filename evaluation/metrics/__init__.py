"""Fusion metrics as pure functions, one module per family; ``registry`` has each with variant, direction and source.

Imported by the rest of ``evaluation``, by ``workflows`` and ``train``.
"""
