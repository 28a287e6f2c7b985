"""Registration of the infrared camera to the visible one: calibration files, boards, scenes, warps, drift.

Imports ``core`` and the YAML reader; imported by ``pipeline``, ``rig`` and above.
"""
