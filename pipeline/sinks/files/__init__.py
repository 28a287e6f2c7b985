"""Sinks that write files: video, segments, images, sidecars, retention.

Imports no server; imported by ``rig`` and ``workflows``.
"""
