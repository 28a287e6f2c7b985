"""Sinks that serve or push: RTSP, the preview page."""
