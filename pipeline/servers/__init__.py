"""Network servers of the live sinks: RTSP and the preview page, each with an asyncio event loop in its own thread.

Imports ``core`` and, of ``pipeline``, ``backoff`` and ``encoding``; imported by ``pipeline.sinks.live`` and ``rig``.
"""
