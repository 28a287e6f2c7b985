"""Damaged frames of a camera in words: the meter, and RTP over UDP through a relay that drops packets."""

import random
import threading

import pytest
from helpers.live_sources import S
from peers.cameras import MISSING, RtspCamera, gst_rtsp_server
from peers.relay import Harm, Relay

from fusepipe.core.frames import Band, UnreadableFrame
from fusepipe.pipeline.sources.live.camera import LiveSource
from fusepipe.pipeline.sources.live.connection_options import LiveOptions
from fusepipe.pipeline.sources.live.damage import DamageMeter, damage_advice


def lines(share, seconds, fps=25):
    """What a meter logs of a camera with this share of damaged frames."""
    rng, meter = random.Random(1), DamageMeter("do this")
    frames = range(seconds * fps)
    return [text for n in frames if (text := meter.push(n * S // fps, damaged=rng.random() < share))]


def test_a_high_share_of_damaged_frames_is_logged_once_a_minute():
    assert lines(0.0, 200) == [] and lines(0.01, 200) == []
    logged = lines(0.3, 125)
    assert len(logged) == 2 and all("% of the frames of the last 10 s are damaged: do this" in text for text in logged)
    assert 20 <= int(logged[0].partition("%")[0]) <= 40
    assert lines(0.5, 100, fps=1) == [], "too few frames to judge"


def test_the_advice_is_for_the_transport():
    assert damage_advice("RTSP://cam/x", "udp").endswith("set transport: tcp")
    assert "transport" not in damage_advice("rtsp://cam/x", "tcp") + damage_advice("udp://239.0.0.1:5000", "tcp")


@pytest.mark.slow
@pytest.mark.skipif(not gst_rtsp_server(), reason=MISSING)
@pytest.mark.parametrize("damaged", ["drop", "show"])
def test_lost_packets_are_named_and_damaged_frames_are_shown_on_request(damaged, caplog):
    """30 % of the RTP packets are lost."""
    camera = RtspCamera(size="320x240", fps=25, noise_kbps=1500, life_s=60)
    relay = Relay(camera.port)
    relay.harm = Harm(loss=0.3, rng=random.Random(1))
    source = LiveSource(
        f"rtsp://127.0.0.1:{relay.port}/cam", Band.VISIBLE, LiveOptions(transport="udp", damaged=damaged)
    )
    stop, unreadable = threading.Event(), 0
    watchdog = threading.Timer(30, stop.set)
    watchdog.start()
    try:
        for item in source.frames(stop):
            unreadable += isinstance(item, UnreadableFrame)
            if "are damaged" in caplog.text:
                stop.set()
    finally:
        watchdog.cancel()
        source.close()
        relay.close()
        camera.kill()
    assert "are damaged: RTP packets are lost on the way; set transport: tcp" in caplog.text
    assert (unreadable > 50) == (damaged == "drop")
