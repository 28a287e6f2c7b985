"""A gst-rtsp-server that accepts RECORD and counts received buffers; run by the system's Python.

rtsp_recorder.py PORT [USER PASSWORD]; prints ``listening``, then ``buffers N`` periodically.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

Gst.init(None)
count = 0


def arrived(sink, buffer, pad):
    global count
    count += 1
    if count % 5 == 0:
        print("buffers", count, flush=True)  # noqa: T201


def configure(factory, media):
    media.get_element().get_by_name("counter").connect("handoff", arrived)


server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
factory.set_launch("( rtph264depay name=depay0 ! fakesink name=counter signal-handoffs=true async=false sync=false )")
factory.connect("media-configure", configure)
server.get_mount_points().add_factory("/roof", factory)
if len(sys.argv) > 3:
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_digest(sys.argv[2], sys.argv[3], token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)
server.attach(None)
print("listening", flush=True)  # noqa: T201
GLib.MainLoop().run()
