"""Parallax that one plane leaves: a field of local displacements, and a warp that is moved by it.

Nothing here reads files or knows cameras. Imported by ``pipeline.stages.local_registration``.
"""
