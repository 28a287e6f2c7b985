"""Recorded sources: image folders and video files."""
