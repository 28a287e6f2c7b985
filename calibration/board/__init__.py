"""Calibration from boards: targets, detection, capture of views, intrinsics, and the stereo pose.

Imports ``calibration.lens`` and ``calibration.matrix``; imported by ``calibration.file``, ``calibration.warp``,
``workflows`` and ``commands``.
"""
