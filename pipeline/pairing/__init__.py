"""Pairing infrared with visible frames, recorded and live: capture clocks, image freezes, degradation states.

Pure: no threads, no sleeping; time is passed in. Imports ``core`` and the types of ``pipeline.sources.base``. Imported
by ``pipeline.graph``, ``rig`` and ``workflows``.
"""
