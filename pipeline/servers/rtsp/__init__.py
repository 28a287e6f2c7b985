"""An RTSP 1.0 server and a RECORD client for one H.264 video stream: pure protocol modules, two asyncio shells.

::

    message   bytes <-> requests, responses, interleaved packets, with limits      (RFC 2326)
    digest    authentication on both sides                                        (RFC 2617, RFC 2069)
    sdp       the description of a stream                                         (RFC 4566, RFC 6184)
    h264      access units, NAL units, RTP payloads                               (RFC 6184)
    rtp       packet headers, sender reports, the two clocks                      (RFC 3550)
    session   what a server answers: the state machine of one client              (RFC 2326)
    delivery  which access units one client gets, and when it is given up
    ----------------------------------------------------------------------------
    server    sockets and one thread a port
    push      sockets and one thread a target

All but the last two are free of sockets, threads and clocks. It is written here since no library on PyPI
serves H.264 over TCP and UDP with sender reports to many clients; gst-rtsp-server does, and is a system
package that pip cannot install. aiortc's RTP modules were looked at: they are tied to its DTLS transport.
"""
