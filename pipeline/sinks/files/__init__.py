"""Sinks that write files: video, segments, images, sidecars, retention."""
