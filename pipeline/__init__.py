"""The streaming pipeline: sources, pairing, stages, sinks and servers, wired by ``graph``, run by ``supervisor``.

Imports ``core`` and ``calibration`` only; fusion is used through the ``Fuser`` protocol. Imported by ``rig`` and above.
"""
