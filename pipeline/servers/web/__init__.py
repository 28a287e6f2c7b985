"""The preview page: live video, states and statistics in a browser; metrics and health checks for machines.

``access`` (who may connect), ``users``, ``login_sessions``, ``login_throttle``, ``rendering`` (views of a frame) and
``prometheus`` (metrics as text) are pure; ``server`` is the aiohttp application, ``gate`` lets requests in, ``login``
checks passwords; ``whep``, ``peer``, ``video_feed`` and ``link_rate`` are WebRTC. Everything is read-only.

``page_files`` renders the page: the skeleton and style sheet of all pages, with ``templates/page.html`` and
``page.css``. The server puts no data into it; its scripts fetch them.

Imported by ``pipeline.sinks.live``.
"""
