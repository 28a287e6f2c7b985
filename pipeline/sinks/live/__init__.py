"""Sinks that serve or push: RTSP server, RTSP publisher, preview page."""
