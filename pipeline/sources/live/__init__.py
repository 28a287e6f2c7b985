"""Live cameras: connection, reconnection, classified errors, FFmpeg options."""
