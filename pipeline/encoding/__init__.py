"""Video encoding: frames to FFmpeg frames, the low-latency H.264 encoder, NAL units."""
