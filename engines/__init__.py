"""Engines: from ONNX to running fusers, the store of built engines, the shipped weights.

Imports ``core`` only; imported by ``rig``, ``train`` and above.
"""
