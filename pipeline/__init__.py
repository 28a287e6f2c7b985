"""The streaming pipeline: sources, pairing, stages, sinks and servers, wired by ``graph`` and owned by ``supervisor``.

Imports ``core`` and ``calibration``; sees fusion only as the ``Fuser`` protocol. Imported by ``rig`` and above.
"""
