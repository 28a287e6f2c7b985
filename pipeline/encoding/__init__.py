"""Video encoding: frames to FFmpeg frames, the low-latency H.264 encoder, NAL units.

Imports ``core`` only; imported by ``pipeline.servers``, ``pipeline.sinks`` and ``rig``.
"""
