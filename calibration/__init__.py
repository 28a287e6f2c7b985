"""Registration of the infrared camera to the visible one: calibration files, boards, scenes, warps, drift.

Imports ``core`` only; imported by ``pipeline``, ``rig`` and above.
"""
