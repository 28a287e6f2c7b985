"""Sinks of fused frames: ``base`` is the contract, ``runner`` feeds and restarts one sink; ``rig`` makes them.

Imported by ``pipeline.graph``, ``rig`` and ``workflows``.
"""
