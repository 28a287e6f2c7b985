"""The pure half of RTSP: parser, authentication, descriptions, packets, session, delivery. No sockets, no clocks."""

import base64
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusepipe.pipeline.backoff import PUSH, PUSH_LOGIN, Backoff
from fusepipe.pipeline.encoding.h264 import AccessUnit, payloads, split_annex_b
from fusepipe.pipeline.servers.delivery import Delivery, DeliveryDecision
from fusepipe.pipeline.servers.rtsp import digest
from fusepipe.pipeline.servers.rtsp.digest import Credentials, Guard
from fusepipe.pipeline.servers.rtsp.message import Interleaved, MessageLimits, Parser, ProtocolError, Request, Response
from fusepipe.pipeline.servers.rtsp.rtp import Sender, ntp, ticks
from fusepipe.pipeline.servers.rtsp.sdp import Description, write_sdp
from fusepipe.pipeline.servers.rtsp.session import (
    Offered,
    RtspSession,
    SessionContext,
    State,
    Transport,
    choose_transport,
    path_of,
)

S = 1_000_000_000
SPS, PPS = bytes.fromhex("6764001eacd940a02ff970110000"), bytes.fromhex("68ebe3cb22c0")

# -- messages


def test_messages_and_interleaved_packets_are_parsed_in_any_fragmentation():
    messages = [
        Request("OPTIONS", "rtsp://h/a", {"cseq": "1"}),
        Interleaved(1, b"\x80\xc9" + bytes(30)),
        Request("ANNOUNCE", "rtsp://h/a", {"cseq": "2", "content-length": "3"}, b"v=0"),
        Response(200, {"cseq": "2"}),
    ]
    head = {"content-length"}
    data = b"".join(
        Request(m.method, m.uri, {k: v for k, v in m.headers.items() if k not in head}, m.body).encode()
        if isinstance(m, Request)
        else m.encode()
        for m in messages
    )
    for step in (1, 2, 3, 7, 50, len(data)):
        parser = Parser()
        found = [m for i in range(0, len(data), step) for m in parser.feed(data[i : i + step])]
        assert found == messages
        assert not parser.in_message


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"OPTIONS rtsp://h RTSP/2.0\r\n\r\n", 505),
        (b"OPTIONS rtsp://h\r\n\r\n", 400),
        (b"OPTIONS  rtsp://h RTSP/1.0\r\n\r\n", 400),
        (b"OPTIONS rtsp://h RTSP/1.0\r\nno colon\r\n\r\n", 400),
        (b"OPTIONS rtsp://h RTSP/1.0\r\nContent-Length: -1\r\n\r\n", 400),
        (b"OPTIONS rtsp://h RTSP/1.0\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"OPTIONS rtsp://h RTSP/1.0\r\nA: \x00\r\n\r\n", 400),
        (b"OPTIONS rtsp://h\xff RTSP/1.0\r\n\r\n", 400),
        (b"RTSP/1.0 2x0 OK\r\n\r\n", 400),
        (b"O" * 5000, 414),
        (b"OPTIONS rtsp://h RTSP/1.0\r\n" + b"A: b\r\n" * 65 + b"\r\n", 431),
        (b"OPTIONS rtsp://h RTSP/1.0\r\n" + b"A: " + b"b" * 20_000, 431),
    ],
)
def test_invalid_messages_and_their_status(data, status):
    with pytest.raises(ProtocolError) as caught:
        Parser().feed(data)
    assert caught.value.status == status


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=800), max_size=8))
def test_any_bytes_are_parsed_or_refused_within_bounded_memory(pieces):
    limits = MessageLimits(line_bytes=200, headers=8, head_bytes=600, body_bytes=400)
    parser = Parser(limits)
    for piece in pieces:
        try:
            parser.feed(piece)
        except ProtocolError:
            return
        assert parser.held_bytes <= limits.held_bytes


TEXT = st.text('ab/:;=,"%[]@?#*-. \t\r\n\x00\x85é€𝄞0123456789', max_size=40)
METHODS = ["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "RECORD"]
URIS = ["*", "rtsp://h/roof", "rtsp://h/roof/trackID=0", "rtsp://[::1/roof", "/roof"]
NAMES = ["CSeq", "Session", "Transport", "Authorization", "Require", "Accept", "Content-Length"]
VALUES = ["1", "abc", "RTP/AVP/TCP;interleaved=0-1", "RTP/AVP;client_port=5000-5001", "Digest a=b, c", "0"]


def request_text(method, uri, headers, body):
    lines = [f"{method} {uri} RTSP/1.0", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode() + body


REQUESTS = st.builds(
    request_text,
    st.sampled_from(METHODS),
    st.sampled_from(URIS) | TEXT,
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | TEXT), max_size=5),
    st.binary(max_size=20),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(REQUESTS, max_size=4))
def test_any_requests_are_answered_or_refused(requests):
    """Parser, session, transport and authentication together: every outcome is an answer that can be sent."""
    parser, session = Parser(), session_of(Credentials("ann", "secret"))
    for data in requests:
        try:
            messages = parser.feed(data)
        except ProtocolError:
            return
        for message in messages:
            if isinstance(message, Request):
                response = session.answer(message, 7)
                assert response.status in (200, 400, 401, 404, 405, 454, 551)
                assert Parser().feed(response.encode())
                assert session.state is State.INIT, "no access without the password"


# -- authentication


def test_the_digest_matches_the_standard():
    """The example of RFC 2617, section 3.5, computed without its qop (RFC 2069)."""
    got = digest.response(
        Credentials("Mufasa", "Circle Of Life"),
        "testrealm@host.com",
        "dcd98b7102dd2f0e8b11d0f600bfb0c093",
        "GET",
        "/dir/index.html",
    )
    assert got == "670fd8c2df070c60b045671b8b24ff02"


def test_a_guard_admits_the_right_answer_only():
    ann = Credentials("ann", 'pa"ss')
    guard, uri = Guard(ann), "rtsp://h:8554/roof"
    right = digest.answer(ann, guard.challenge, "DESCRIBE", uri)
    assert guard.admits("DESCRIBE", uri, right)
    assert not guard.admits("DESCRIBE", uri, None) and guard.failures == 0, "a missing answer is not a failure"
    wrong = [
        digest.answer(Credentials("ann", "x"), guard.challenge, "DESCRIBE", uri),
        digest.answer(Credentials("bob", 'pa"ss'), guard.challenge, "DESCRIBE", uri),
        digest.answer(ann, Guard(ann).challenge, "DESCRIBE", uri),  # of another connection
        digest.answer(ann, guard.challenge, "PLAY", uri),
        digest.answer(ann, guard.challenge, "DESCRIBE", "rtsp://h:8554/other"),
        "Basic YW5uOnBhInNz",
        "Digest",
        "",
    ]
    assert [guard.admits("DESCRIBE", uri, each) for each in wrong] == [False] * len(wrong)
    assert guard.failures == len(wrong)
    assert "pa" not in repr(ann).replace("password", "")


# -- video


def nal(kind, size):
    return bytes((0x60 | kind,)) + bytes((i * 7 + 1) % 256 for i in range(size - 1))


def joined(parts):
    """The NAL units of RTP payloads: single units and FU-A fragments (RFC 6184, 5.8), read as a receiver does."""
    units = []
    for part in parts:
        if part[0] & 0x1F != 28:
            units.append(part)
        elif part[1] & 0x80:
            units.append(bytes(((part[0] & 0xE0) | (part[1] & 0x1F),)) + part[2:])
        else:
            units[-1] += part[2:]
    return units


@pytest.mark.parametrize("size", [1, 2, 1399, 1400, 1401, 1402, 2797, 2798, 2799, 100_000])
def test_units_are_cut_and_put_together_again(size):
    units = [nal(7, 20), nal(8, 5), nal(5, size)]
    parts = list(payloads([nal(9, 2), *units], 1400))
    assert max(map(len, parts)) <= 1400
    assert joined(parts) == units
    fragments = [p for p in parts if p[0] & 0x1F == 28]
    assert [bool(p[1] & 0x80) for p in fragments] == [i == 0 for i in range(len(fragments))]
    assert [bool(p[1] & 0x40) for p in fragments] == [i == len(fragments) - 1 for i in range(len(fragments))]
    assert len(fragments) != 1, "a fragment alone is not allowed"


def test_the_byte_stream_is_split_at_both_kinds_of_start_code():
    assert split_annex_b(b"\x00\x00\x00\x01\x67ab\x00\x00\x01\x68c\x00\x00\x00\x01\x65" + b"d" * 9) == (
        b"\x67ab",
        b"\x68c",
        b"\x65" + b"d" * 9,
    )
    assert split_annex_b(b"") == split_annex_b(b"\x00\x00\x01") == ()


@given(st.binary(max_size=400))
def test_any_bytes_are_split(data):
    for unit in split_annex_b(data):
        assert unit and b"\x00\x00\x01" not in unit


def test_the_description_holds_the_parameter_sets():
    text = write_sdp(Description("roof\r\na=x", SPS, PPS, 640, 480, 25.0), host="::1", session_id=5).decode()
    assert "a=fmtp:96 packetization-mode=1;profile-level-id=64001E;sprop-parameter-sets=" in text
    sets = text.split("sprop-parameter-sets=")[1].split("\r\n")[0].split(",")
    assert [base64.b64decode(each) for each in sets] == [SPS, PPS]
    assert "s=roof??a=x\r\n" in text and "IN IP6 ::1\r\n" in text
    assert all(line.isprintable() for line in text.split("\r\n"))


def test_the_report_ties_capture_times_to_the_wall_clock():
    sender = Sender(ssrc=0xDEADBEEF, sequence=65535, offset=0xFFFF_FFF0)
    head = sender.header(2 * S, marker=True, payload_bytes=100)
    assert struct.unpack(">BBHII", head) == (0x80, 0xE0, 65535, (180_000 - 16) % 2**32, 0xDEADBEEF)
    assert struct.unpack(">BBHII", sender.header(2 * S, marker=False, payload_bytes=50))[2] == 0, "it wraps"
    unix_ns = 1_700_000_000 * S + S // 2
    assert sender.report_due(0)
    report = sender.report(2 * S, unix_ns, now_ns=0)
    kind, length, ssrc, seconds, fraction, stamp, packets, octets = struct.unpack(">xBHIIIIII", report[:28])
    assert (kind, length, ssrc, packets, octets) == (200, 6, 0xDEADBEEF, 2, 150)
    assert (seconds - 2_208_988_800, fraction) == (1_700_000_000, 2**31)
    assert stamp == (180_000 - 16) % 2**32
    assert len(report) % 4 == 0 and report[29] == 202 and b"fusepipe" in report
    assert not sender.report_due(4 * S) and sender.report_due(5 * S)
    assert struct.unpack(">B", sender.goodbye()[9:10])[0] == 203


@given(st.integers(0, 2**62))
def test_times_stay_within_their_fields(time_ns):
    assert abs(ticks(time_ns) * S - time_ns * 90_000) <= S // 2
    assert all(0 <= part < 2**32 for part in ntp(time_ns))


# -- sessions


def session_of(credentials=None, sdp=b"v=0", full=False, ports=(6000, 6001)):
    guard = Guard(credentials)
    return RtspSession(
        SessionContext(lambda p: Offered(guard, sdp, full) if p == "roof" else None, ports, 0xABCD, "5e55")
    )


def ask(machine, method, uri="rtsp://h/roof", /, **headers):
    return machine.answer(Request(method, uri, {"cseq": "3", **headers}), 42)


TCP = "RTP/AVP/TCP;unicast;interleaved=2-3"
UDP = "RTP/AVP;unicast;client_port=5000-5001"


def test_a_session_from_describe_to_teardown():
    session = session_of()
    described = ask(session, "DESCRIBE")
    assert (described.status, described.body) == (200, b"v=0")
    assert described.headers["Content-Base"] == "rtsp://h/roof/"
    assert ask(session, "PLAY", session="5e55").status == 454, "nothing was set up"
    setup = ask(session, "SETUP", "rtsp://h/roof/trackID=0", transport=UDP)
    assert "client_port=5000-5001;server_port=6000-6001;ssrc=0000ABCD" in setup.headers["Transport"]
    assert setup.headers["Session"] == "5e55;timeout=60"
    assert session.transport == Transport(False, 5000, 5001)
    assert ask(session, "PLAY", session="other").status == 454
    played = ask(session, "PLAY", "rtsp://h/roof/", session="5e55")
    assert played.headers["RTP-Info"] == "url=rtsp://h/roof/trackID=0;seq=42"
    assert session.state is State.PLAYING
    assert ask(session, "SETUP", transport=TCP).status == 455
    assert ask(session, "GET_PARAMETER", session="5e55").status == 200
    assert ask(session, "PAUSE", session="5e55").status == 200 and session.state is State.READY
    assert ask(session, "TEARDOWN", session="5e55").status == 200
    assert session.state is State.INIT and session.hang_up


def test_requests_that_a_session_refuses():
    session = session_of()
    assert ask(session, "DESCRIBE", "rtsp://h/rof").status == 404
    assert ask(session, "DESCRIBE", "rtsp://[::1/roof").status == 400
    assert ask(session, "DESCRIBE", accept="text/html").status == 406
    assert ask(session, "RECORD").status == 405 and ask(session, "ANNOUNCE").status == 405
    assert ask(session, "SETUP", require="www.onvif.org/ver20/backchannel").status == 551
    assert ask(session, "SETUP", transport="RTP/AVP;multicast").status == 461
    assert ask(session_of(sdp=None), "DESCRIBE").status == 503
    assert ask(session_of(full=True), "SETUP", transport=TCP).status == 453
    assert session.answer(Request("OPTIONS", "*"), 0).status == 400 and session.hang_up, "no CSeq"


def test_wrong_passwords_end_the_connection():
    session = session_of(Credentials("ann", "secret"))
    assert ask(session, "DESCRIBE").status == 401
    for _ in range(3):
        assert not session.hang_up
        assert ask(session, "DESCRIBE", authorization='Digest username="ann", response="0"').status == 401
    assert session.hang_up


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (TCP, Transport(True, 2, 3)),
        ("RTP/AVP/TCP", Transport(True, 0, 1)),
        (UDP, Transport(False, 5000, 5001)),
        ("RTP/AVP;multicast;ttl=1, RTP/AVP/TCP;interleaved=0-1", Transport(True, 0, 1)),
        ("RTP/AVP;client_port=5000", Transport(False, 5000, 5001)),
        ("RTP/AVP;client_port=53-54", None),
        ("RTP/AVP;client_port=65535", None),
        ("RTP/AVP/TCP;interleaved=0-0", None),
        ("RTP/AVP/TCP;interleaved=255-256", None),
        ("RTP/AVP/TCP;interleaved=²-³", None),
        ("RTP/AVP/TCP;mode=RECORD", None),
        ("RTP/SAVP/TCP", None),
        ("", None),
    ],
)
def test_transports(header, expected):
    assert choose_transport(header, udp=True) == expected


def test_paths():
    assert path_of("rtsp://u:p@h:8554/roof/?a=b") == "roof"
    assert path_of("*") == "" and path_of("/a%20b/") == "a b"


# -- delivery


def offers(delivery, script):
    return [delivery.offer(key=k, queued_bytes=q, now_ns=t * S) for k, q, t in script]


def test_a_client_starts_on_a_key_unit_and_returns_on_one():
    delivery = Delivery(limit_bytes=1000, patience_ns=10 * S)
    send, drop = DeliveryDecision.SEND, DeliveryDecision.DROP
    assert offers(delivery, [(False, 0, 0), (True, 0, 0), (False, 900, 1)]) == [drop, send, send]
    assert offers(delivery, [(False, 1100, 2), (True, 900, 3), (False, 200, 4)]) == [drop, drop, drop]
    assert delivery.wants_key and delivery.dropped == 3
    assert offers(delivery, [(True, 200, 5), (False, 200, 5)]) == [send, send]
    assert not delivery.wants_key


def test_a_stalled_client_is_disconnected_and_a_slow_one_is_not():
    stuck = Delivery(limit_bytes=1000, patience_ns=10 * S)
    assert offers(stuck, [(True, 0, 0), (False, 1100, 1), (False, 1100, 10)])[-1] is DeliveryDecision.DROP
    assert offers(stuck, [(False, 1100, 11)]) == [DeliveryDecision.DISCONNECT]
    slow = Delivery(limit_bytes=1000, patience_ns=10 * S)
    for start in range(0, 100, 5):
        script = [(True, 0, start), (False, 1100, start + 1), (False, 1050, start + 4)]
        assert DeliveryDecision.DISCONNECT not in offers(slow, script)


def test_a_quiet_stream_notices_too_that_nothing_leaves():
    """A queue far below the limit, of which nothing leaves: a frozen peer of a stream of few bits."""
    delivery, verdicts = Delivery(limit_bytes=10**6, patience_ns=10 * S), []
    for second in range(12):
        verdicts.append(delivery.offer(key=second == 0, queued_bytes=100 * second, now_ns=second * S))
        delivery.wrote(100)
    assert verdicts == [DeliveryDecision.SEND] * 11 + [DeliveryDecision.DISCONNECT]
    moving = Delivery(limit_bytes=10**6, patience_ns=10 * S)
    for second in range(40):  # a little leaves each second
        assert moving.offer(key=second == 0, queued_bytes=99 * second, now_ns=second * S) is DeliveryDecision.SEND
        moving.wrote(100)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3000), st.integers(0, 3)), max_size=80))
def test_no_frame_is_sent_without_its_reference(script):
    delivery, now_ns, complete = Delivery(limit_bytes=1000, patience_ns=10 * S), 0, False
    for key, queued, seconds in script:
        now_ns += seconds * S
        verdict = delivery.offer(key=key, queued_bytes=queued, now_ns=now_ns)
        if verdict is DeliveryDecision.SEND:
            assert key or complete
            assert queued <= 1000
        if verdict is DeliveryDecision.DISCONNECT:
            break  # the connection ends, and with it what decides about it
        complete = verdict is DeliveryDecision.SEND


def test_the_back_off_of_a_push_is_bounded_and_longest_after_a_failed_login():
    backoff = Backoff(PUSH)
    assert [backoff.wait_ns(0.0) / S for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert [backoff.wait_ns(0.0, PUSH_LOGIN) / S for _ in range(3)] == [60.0, 60.0, 60.0]
    assert Backoff(PUSH).wait_ns(0.0) < Backoff(PUSH).wait_ns(1.0)


def test_an_access_unit_knows_its_size_and_its_byte_stream():
    unit = AccessUnit((SPS, PPS), key=True, capture_ns=0)
    assert unit.size_bytes == len(SPS) + len(PPS)
    assert split_annex_b(unit.annex_b()) == (SPS.rstrip(b"\x00"), PPS)
