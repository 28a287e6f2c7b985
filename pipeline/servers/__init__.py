"""Network servers of the live sinks: RTSP and the preview page, each with an asyncio event loop in its own thread."""
