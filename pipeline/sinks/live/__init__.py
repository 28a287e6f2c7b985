"""Sinks that serve or push: RTSP server, RTSP publisher, preview page.

Imports ``pipeline.servers``; imported by ``rig`` only.
"""
