"""``synthetic://street``: a rendered scene with known ground truth, for demos, tests and benchmarks.

Imports ``core`` and ``pipeline.sources.base``; imported by ``rig`` and ``workflows``.
"""
