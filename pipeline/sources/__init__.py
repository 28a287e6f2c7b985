"""Sources of frames. ``base`` is the contract; ``rig.factories`` makes them from a rig's configuration.

Imports ``core`` and ``pipeline.backoff``; imported by ``pipeline.pairing``, the modules of ``pipeline``, ``rig`` and
``workflows``.
"""
