"""Processing of pairs: scaling, registration, tone mapping, cropping, fusion, drift watch, state label.

Imports ``core`` and ``calibration``; imported by ``pipeline.graph``, ``rig`` and ``workflows``.
"""
