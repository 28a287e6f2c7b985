"""The preview page: live video, states and statistics in a browser; metrics and health checks for machines.

``access`` (who may connect), ``rendering`` (views of a frame) and ``metrics`` (Prometheus text) are pure; ``server`` is
the aiohttp application; ``whep``, ``peer``, ``video_feed`` and ``link_rate`` are WebRTC. Everything is read-only.

Imported by ``pipeline.sinks.live``.
"""
