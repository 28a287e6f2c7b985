"""How the infrared camera's picture lies in the visible camera's: calibration files, boards, scenes, warps, drift.

Imports ``core`` and the YAML reader; imported by ``pipeline``, ``rig`` and above.
"""
