"""Live cameras: connecting, reconnecting, classified errors, FFmpeg options."""
