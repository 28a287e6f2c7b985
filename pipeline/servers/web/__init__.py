"""The preview page: live video, states and statistics in a browser; metrics and health checks for machines.

``access`` (who may connect), ``rendering`` (views of a frame) and ``prometheus`` (metrics as text) are pure; ``server``
is the aiohttp application; ``whep``, ``peer``, ``video_feed`` and ``link_rate`` are WebRTC. Everything is read-only.

The page is a static file with its own style sheet, not a jinja2 template as the reports are: the server renders no data
into it (scripts fetch them), and this package may not import ``fusepipe.evaluation``, where the templates' skeleton is.

Imported by ``pipeline.sinks.live``.
"""
