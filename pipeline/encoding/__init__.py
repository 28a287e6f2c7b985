"""H.264 for live outputs: planes to FFmpeg pictures, the low-latency encoder, NAL units."""
