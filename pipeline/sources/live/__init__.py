"""Live cameras: connecting, reconnecting, classified errors, FFmpeg options.

Imported by ``pipeline.supervisor`` and ``rig``.
"""
