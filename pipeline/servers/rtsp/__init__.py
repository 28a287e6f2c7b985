"""An RTSP 1.0 server and a publishing client (RECORD) for one H.264 video stream: protocol modules and asyncio shells.

::

    message     bytes <-> requests, responses, interleaved packets, with limits    (RFC 2326)
    digest      authentication, server and client side                             (RFC 2617, RFC 2069)
    sdp         the description of a stream                                        (RFC 4566, RFC 6184)
    rtp         packet headers, sender reports                                     (RFC 3550)
    session     the state machine of one client's session                          (RFC 2326)
    ----------------------------------------------------------------------------
    stream      one published stream and its clients
    connection  one client: requests and packets
    udp, tcp    sockets
    server      listens: one thread for each port
    push        publishes to another server: one thread for each target

The modules above the line are pure: no sockets, threads or clocks. No library on PyPI serves H.264 over TCP and UDP
with sender reports to many clients: gst-rtsp-server is a system package that pip cannot install, and aiortc's RTP
modules are tied to its DTLS transport.

Imported by ``pipeline.sinks.live`` and ``rig``.
"""
