"""Calibration files: ``model`` and its ``fields``, ``storage`` on disk, ``exchange`` with OpenCV and kalibr.

Imported by ``calibration.warp``, ``calibration.scene``, ``rig`` and the workflows.
"""
