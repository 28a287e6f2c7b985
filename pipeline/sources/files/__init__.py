"""Recorded sources: image folders and video files.

Imports ``core`` and the modules of ``pipeline.sources``; imported by ``rig`` and ``workflows``.
"""
