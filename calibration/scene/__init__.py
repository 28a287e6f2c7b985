"""Calibration from the scene: initial search, block matching, registration, lens estimation, match quality, residuals.

Nothing here reads files or knows cameras: image pairs in, matrices and figures out. Imported by ``calibration.drift``,
``workflows`` and ``commands``.
"""
