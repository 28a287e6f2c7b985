"""Cameras of a benchmark: H.264 recordings served over RTSP in real time by gst-rtsp-server, without encoding.

Run by the system's Python, which has the GObject bindings (python3-gi, gir1.2-gst-rtsp-server-1.0), with GStreamer's
plugins good and bad:

    rtsp_clips.py PORT SECONDS NAME=FILE...

``rtsp://127.0.0.1:PORT/NAME`` plays a Matroska file from its start, for its first viewer. Prints ``ready`` when it
listens, and ends after SECONDS.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

LAUNCH = '( filesrc location="{file}" ! matroskademux ! h264parse ! rtph264pay name=pay0 config-interval=-1 )'


def main() -> None:
    port, seconds, *clips = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    for clip in clips:
        name, _, file = clip.partition("=")
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(LAUNCH.format(file=file))
        factory.set_shared(True)
        server.get_mount_points().add_factory(f"/{name}", factory)
    if not server.attach(None):
        raise SystemExit(f"cannot listen on port {port}")
    loop = GLib.MainLoop()
    GLib.timeout_add_seconds(int(seconds), loop.quit)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    loop.run()


if __name__ == "__main__":
    main()
