"""Calibration files: ``model`` and its ``sections``, ``storage`` on disk, ``exchange`` with OpenCV and kalibr.

Imports ``calibration.board``, ``calibration.lens`` and ``calibration.matrix``; imported by ``calibration.warp``,
``calibration.scene``, ``rig``, workflows and commands.
"""
