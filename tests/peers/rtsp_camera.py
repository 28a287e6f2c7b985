"""An RTSP camera made of gst-rtsp-server, an independent implementation.

Run by the system's Python, which has the GObject bindings (python3-gi, gir1.2-gst-rtsp-server-1.0), with GStreamer's
plugins good and ugly, for H.265 bad too:

    rtsp_camera.py PORT WIDTHxHEIGHT FPS [--codec h264|h265|mjpeg] [--user NAME:PASSWORD] [--noise KBPS] [--life S]

Prints ``ready`` when it listens. SIGUSR1 freezes the image (timestamps continue), a second one resumes it.
"""

import argparse
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 threads=1 bitrate={kbps} ! "
    "rtph264pay name=pay0 config-interval=-1",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=10 bitrate={kbps} ! "
    "rtph265pay name=pay0 config-interval=-1",
    "mjpeg": "jpegenc ! rtpjpegpay name=pay0",
}
KBPS = 2048  # what x264enc takes by default; a ball needs far less
GREY, NOISE, MOVING = 11, 1, 18  # videotestsrc patterns: solid-color is static, snow is noise, ball moves


def factory(size: str, fps: int, codec: str, noise_kbps: int) -> GstRtspServer.RTSPMediaFactory:
    width, height = size.split("x")
    made = GstRtspServer.RTSPMediaFactory()
    caps = f"video/x-raw,width={width},height={height},framerate={fps}/1,format=I420"
    encoder = ENCODERS[codec].format(kbps=noise_kbps or KBPS)
    pattern = NOISE if noise_kbps else MOVING
    made.set_launch(f"( videotestsrc name=src is-live=true pattern={pattern} ! {caps} ! {encoder} )")
    made.set_shared(True)
    made.connect("media-configure", configured)
    return made


MEDIA: list[GstRtspServer.RTSPMedia] = []


def configured(_: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
    MEDIA.append(media)


def protect(server: GstRtspServer.RTSPServer, made: GstRtspServer.RTSPMediaFactory, user: str) -> None:
    name, _, password = user.partition(":")
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth = GstRtspServer.RTSPAuth.new()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(name, password), token)
    server.set_auth(auth)
    rights = "user, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    made.add_role_from_structure(Gst.Structure.new_from_string(rights))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("size")
    parser.add_argument("fps", type=int)
    parser.add_argument("--codec", default="h264", choices=sorted(ENCODERS))
    parser.add_argument("--user")
    parser.add_argument("--noise", type=int, default=0, help="kbit/s of noise in place of a ball")
    parser.add_argument("--life", type=int, default=600, help="a test that is killed leaves no camera behind for long")
    given = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(given.port)
    made = factory(given.size, given.fps, given.codec, given.noise)
    if given.user:
        protect(server, made, given.user)
    server.get_mount_points().add_factory("/cam", made)
    if not server.attach(None):
        raise SystemExit(f"cannot listen on port {given.port}")
    frozen, moving = [False], NOISE if given.noise else MOVING

    def toggle() -> bool:
        frozen[0] = not frozen[0]
        for media in MEDIA:
            media.get_element().get_by_name("src").set_property("pattern", GREY if frozen[0] else moving)
        return True

    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR1, toggle)
    GLib.timeout_add_seconds(given.life, lambda: loop.quit())
    loop = GLib.MainLoop()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    loop.run()


if __name__ == "__main__":
    main()
