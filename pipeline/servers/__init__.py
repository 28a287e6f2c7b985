"""Network servers that sinks share: RTSP and the web page, each with an asyncio loop in a thread of its own."""
